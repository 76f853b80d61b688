"""Results on disk: one JSON file per evaluation, in SAEBench's schema, and what makes a stored one still valid."""

import hashlib
import json
import time
import uuid
from pathlib import Path
from typing import Any

from vsae_lightning import __version__
from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.evaluation import Evaluation, Scores
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.files import write_json
from vsae_lightning.origin import read_json
from vsae_lightning.redaction import redacted

FOLDER = "evaluation"


def result_path(folder: Path, evaluation: Evaluation, name: str) -> Path:
    """Where the result of one evaluation of one autoencoder is."""
    return folder / evaluation.type_id / result_name(name)


def result_name(name: str) -> str:
    """As SAEBench names the results of a custom SAE, so that its tables and plots find it."""
    return f"{name}_custom_sae_eval_results.json"


def weights_digest(autoencoder: SparseAutoencoder) -> str:
    """SHA-256 of all that an autoencoder has learned."""
    digest = hashlib.sha256()
    for name, value in sorted(autoencoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def stored(path: Path, evaluation: Evaluation, subject: Subject) -> dict[str, Any] | None:
    """A whole result of the same settings, weights, language model and held-out text, where there is one."""
    result = _read(path)
    if result is None or result.get("eval_config") != plain(evaluation.settings(subject)):
        return None
    return result if result["eval_result_unstructured"].get("origin") == _origin(evaluation, subject) else None


def earlier(path: Path, subject: Subject) -> dict[str, Any] | None:
    """A whole result of the same weights, of whatever settings, where there is one."""
    result = _read(path)
    origin = {} if result is None else result["eval_result_unstructured"].get("origin")
    digest = origin.get("weights_sha256") if isinstance(origin, dict) else None
    return result if digest is not None and digest == weights_digest(subject.autoencoder) else None


def _read(path: Path) -> dict[str, Any] | None:
    """A result, where the file is one: a stranger may have written another thing there."""
    try:
        result = read_json(path) if path.is_file() else {}
    except InputError:
        return None
    parts = result.get("eval_result_unstructured")
    headline = parts.get("headline") if isinstance(parts, dict) else None
    is_one = isinstance(headline, dict) and all(isinstance(value, int | float | None) for value in headline.values())
    return result if is_one else None


def write_result(
    path: Path, evaluation: Evaluation, subject: Subject, scores: Scores, seconds: float
) -> dict[str, Any]:
    """Write one result, whole or not at all; returns what was written."""
    result = {
        "eval_type_id": evaluation.type_id,
        "eval_config": plain(evaluation.settings(subject)),
        "eval_id": str(uuid.uuid4()),
        "datetime_epoch_millis": int(time.time() * 1000),
        "eval_result_metrics": scores.metrics,
        "eval_result_details": scores.details,
        "sae_bench_commit_hash": f"vsae_lightning {__version__}",
        "sae_lens_id": "custom_sae",
        "sae_lens_release_id": subject.name,
        "sae_lens_version": None,
        "sae_cfg_dict": sae_config(subject),
        "eval_result_unstructured": {
            **scores.unstructured,
            "origin": _origin(evaluation, subject),
            "headline": scores.headline,
            "seconds": seconds,
        },
    }
    write_json(path, result)
    return result


def sae_config(subject: Subject) -> dict[str, Any]:
    """The autoencoder, described as SAEBench's `CustomSAEConfig` is, and its own description."""
    provenance, autoencoder = subject.provenance, subject.autoencoder
    described = autoencoder.config()
    return {
        "model_name": provenance.model_name,
        "hook_name": provenance.hook_name,
        "hook_layer": int(provenance.hook_name.split(".")[1]),
        "d_in": autoencoder.d_in,
        "d_sae": autoencoder.d_sae,
        "architecture": described["init_args"]["sparsifier"]["class_name"].lower(),
        "context_size": provenance.context_length,
        "prepend_bos": provenance.prepend_bos,
        "dtype": "float32",
        "vsae_lightning": described,
    }


def plain(settings: Any) -> Any:
    """As JSON gives them back: tuples are lists, paths text."""
    return json.loads(json.dumps(settings, default=str))


def _origin(evaluation: Evaluation, subject: Subject) -> dict[str, Any]:
    """What decides a result besides the settings, and tells ours from SAEBench's."""
    provenance = {name: value for name, value in subject.provenance.options().items() if name != "cache_dir"}
    return {
        "computed_by": f"vsae_lightning {__version__}",
        "weights_sha256": weights_digest(subject.autoencoder),
        "provenance": redacted(plain(provenance)),
        "token_store": subject.tokens.key if evaluation.reads_held_out else None,
    }

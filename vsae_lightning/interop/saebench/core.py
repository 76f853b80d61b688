"""SAEBench's own core evaluation, of a subject of ours, on our held-out tokens."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset
from sae_bench.evals.core import main as core
from sae_bench.evals.core.eval_config import CoreEvalConfig
from sae_bench.sae_bench_utils import get_eval_uuid, get_sae_bench_version, get_sae_lens_version
from sae_bench.sae_bench_utils.general_utils import get_results_filepath, load_and_format_sae
from sae_lens.training.activations_store import ActivationsStore

from vsae_lightning.evaluation.core import Core, special_tokens
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.interop.saebench.adapter import AutoencoderForSAEBench, bridge


def run(subject: Subject, evaluation: Core, folder: Path) -> dict[str, Any]:
    """What `core.multiple_evals` does, with our model and tokens where it would load its own; offline.

    SAEBench knows one convention, its own: `evaluation.convention` has no part in it. Its two parts read the rows of
    a data set one after the other; they are given the rows that our two parts read, each from the first.

    Returns:
        SAEBench's result, which is in `folder` too.
    """
    config = _config(subject, evaluation)
    sae_id, sae, _ = load_and_format_sae(subject.name, AutoencoderForSAEBench(subject), str(subject.device))
    parts = [config.n_eval_reconstruction_batches, config.n_eval_sparsity_variance_batches]
    rows = [row for batches in parts for row in evaluation.sequences(subject, batches).tolist()]
    store = ActivationsStore.from_sae(
        bridge(subject),
        sae,
        dataset=Dataset.from_dict({"tokens": rows}),
        context_size=config.context_size,
        streaming=False,
        store_batch_size_prompts=config.batch_size_prompts,
        total_tokens=len(rows),
        device=str(subject.device),
    )
    ignored = set(special_tokens(subject).tolist())
    metrics, features = core.run_evals(sae, store, bridge(subject), config, ignore_tokens=ignored)
    metrics["misc_metrics"] = core.calculate_misc_metrics(features)
    result = {"sae_set": subject.name, "sae_id": sae_id, "metrics": metrics, "feature_metrics": features}
    folder.mkdir(parents=True, exist_ok=True)
    path = get_results_filepath(str(folder), subject.name, sae_id)
    cleaned = {**core.replace_nans_with_negative_one(result), "eval_cfg": config}
    versions = (get_eval_uuid(), get_sae_lens_version(), get_sae_bench_version())
    core.save_single_eval_result(cleaned, *versions, path, sae)
    written: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return written


def _config(subject: Subject, evaluation: Core) -> CoreEvalConfig:
    """Our settings as SAEBench's; no more whole batches than are held out."""
    there = max(1, len(subject.tokens.held_out) // evaluation.batch_size_prompts)
    settings = evaluation.settings(subject)
    for name in ("n_eval_reconstruction_batches", "n_eval_sparsity_variance_batches"):
        settings[name] = min(settings[name], there)
    known = CoreEvalConfig.__dataclass_fields__
    return CoreEvalConfig(**{name: value for name, value in settings.items() if name in known})

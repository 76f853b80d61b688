"""What a folder says of an autoencoder besides its weights: where it comes from, and how good it was."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vsae_lightning.autoencoders.storage import describe_checkpoint, is_checkpoint
from vsae_lightning.config_files import read_config
from vsae_lightning.errors import InputError
from vsae_lightning.files import require_file
from vsae_lightning.log_keys import log_key
from vsae_lightning.runs import CHECKPOINT, run_of

MAX_JSON_BYTES = 10_000_000
STAGES = {"fit.json": ("train", "val"), "validate.json": ("val",), "test.json": ("test",)}


class Origin(NamedTuple):
    """Plain values all; empty where nothing is known.

    Attributes:
        provenance: Options of `Provenance`, as far as they are known.
        training: The whole configuration of the run.
        metrics: As its run logged them, by stage and name: `test/explained_variance`.
        autoencoder: Its description as it was trained, where the folder's format keeps less of it.
    """

    provenance: dict[str, Any]
    training: dict[str, Any]
    metrics: dict[str, Any]
    autoencoder: dict[str, Any]

    @classmethod
    def of_record(cls, record: Any) -> "Origin":
        """From what `_asdict` gave; whatever is not of that form is passed over."""
        found = record if isinstance(record, dict) else {}
        parts = {name: found.get(name) for name in cls._fields}
        return cls(**{name: part if isinstance(part, dict) else {} for name, part in parts.items()})


def origin_of_run(path: Path, member: str | None = None) -> Origin:
    """The origin of a run folder, or of the run of a checkpoint. Nothing that the settings name is imported.

    Raises:
        InputError: It belongs to no run, or its settings cannot be read.
    """
    folder = run_of(path)
    training = read_config(folder / "config.yaml")
    data = training.get("data") or {}
    live = str(data.get("class_path")).rpartition(".")[2] == "ActivationDataModule"
    checkpoint = folder / CHECKPOINT if path.resolve() == folder.resolve() else path
    provenance = (data.get("init_args") or {}) | _max_norm(checkpoint) if live else {}
    return Origin(provenance, training, _metrics(folder, checkpoint, member), {})


def _max_norm(checkpoint: Path) -> dict[str, float]:
    """The norm above which training left activations out, where it did."""
    data = describe_checkpoint(checkpoint).get("ActivationDataModule") if is_checkpoint(checkpoint) else None
    layout, norms = (data.get(name) if isinstance(data, dict) else None for name in ("layout", "norms"))
    if not isinstance(layout, dict) or not isinstance(norms, dict) or layout.get("max_norm_ratio") is None:
        return {}
    return {"max_norm": norms["limit"]} if isinstance(norms.get("limit"), float) else {}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a stranger.

    Raises:
        InputError: It cannot be read, is no JSON object, or is too large for settings.
    """
    require_file(path, MAX_JSON_BYTES)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable JSON ({error}).") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object.")
    return content


def of_checkpoint(contents: Mapping[str, dict[str, Any]], checkpoint: Path) -> dict[str, dict[str, Any]]:
    """Of the contents of metrics files, those of this checkpoint as it is now: of its name and its tokens.

    A run that goes on writes another checkpoint of the same name. Where there is none any more, the name decides.

    Raises:
        InputError: The checkpoint cannot be read.
    """
    named = {key: one for key, one in contents.items() if Path(str(one.get("checkpoint"))).name == checkpoint.name}
    tokens = _tokens_seen(checkpoint) if named and is_checkpoint(checkpoint) else None
    return {key: one for key, one in named.items() if tokens is None or one.get("train/tokens") == tokens}


def _tokens_seen(checkpoint: Path) -> Any:
    """Of a run, or of the first member of an ensemble, as metrics files have it."""
    content = describe_checkpoint(checkpoint)
    members = content.get("members")
    first = next(iter(members.values()), content) if isinstance(members, dict) else content
    return first.get("tokens_seen") if isinstance(first, dict) else None


def _metrics(folder: Path, checkpoint: Path, member: str | None) -> dict[str, float]:
    """What the commands wrote beside the run of this very checkpoint."""
    contents = {file: read_json(folder / file) for file in STAGES if (folder / file).is_file()}
    found: dict[str, float] = {}
    for file, content in of_checkpoint(contents, checkpoint).items():
        for stage in STAGES[file]:
            prefix = log_key(stage, member or "", "") + "/"
            found |= {
                f"{stage}/{key.removeprefix(prefix)}": float(value)
                for key, value in content.items()
                if key.startswith(prefix) and isinstance(value, int | float) and "/" not in key.removeprefix(prefix)
            }
    return found

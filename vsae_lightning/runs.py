"""Run folders: where a name says, the newest, and the newest with a configuration."""

from pathlib import Path
from typing import Any

import yaml

from vsae_lightning.errors import InputError
from vsae_lightning.redaction import redacted, without_removed

LOGS = Path("lightning_logs")
CHECKPOINT = Path("checkpoints", "last.ckpt")
SECTIONS = ("seed_everything", "model", "data")
OF_THE_TRAINER = ("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")
# What may differ between two parts of one run.
INCIDENTAL = {"cache_dir", "max_non_finite_sequences", "torch_compile"}


def newest_trained(root: Path) -> Path:
    """The run whose checkpoint is the newest.

    Raises:
        InputError: There is none.
    """
    trained = sorted((path for path in root.glob(f"*/{CHECKPOINT}")), key=lambda path: path.stat().st_mtime)
    if not trained:
        raise InputError(f"RUN: there is no run in {root} yet; vsae fit makes one.")
    return trained[-1].parents[1]


def place_of(run: str) -> tuple[Path, str | None]:
    """Where RUN, `last`, or either with `:MEMBER` after it, is; and the member.

    Raises:
        InputError: There is no last run.
    """
    path, _, member = run.rpartition(":")
    if not path or Path(run).exists():
        path, member = run, ""
    return newest_trained(LOGS) if path == "last" else Path(path), member or None


def run_of(path: Path) -> Path:
    """The run folder that a path means: itself, or the one that a checkpoint lies in.

    Raises:
        InputError: There is none.
    """
    for folder in (path, *path.resolve().parents[:2]):
        if (folder / "config.yaml").is_file():
            return folder
    raise InputError(f"RUN: {str(path)!r} is no run folder, and no checkpoint in one.")


def newest_of(root: Path, config: dict[str, Any]) -> Path | None:
    """The newest run with the seed, model, data, and what of the trainer decides, of `config`; trained or not."""
    runs = sorted(root.glob("*/config.yaml"), key=lambda path: path.stat().st_mtime)
    wanted = _essence(config)
    return next((run.parent for run in reversed(runs) if _essence(_read(run)) == wanted), None)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _essence(config: Any) -> Any:
    """The sections that decide what a run computes, without secrets: a run folder has none to compare with."""
    config = without_removed(redacted(config))
    trainer = config.get("trainer") or {}
    options = {option: trainer.get(option) for option in OF_THE_TRAINER}
    return {**{section: _plain(config.get(section)) for section in SECTIONS}, "trainer": options}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        # An option that is null is as one that is not there: what a secret was removed from.
        return {key: _plain(entry) for key, entry in value.items() if key not in INCIDENTAL and entry is not None}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value

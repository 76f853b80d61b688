"""Run folders: where a name says, the newest, and the newest with a configuration."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from vsae_lightning.config_files import read_config
from vsae_lightning.errors import InputError
from vsae_lightning.redaction import redacted, without_removed

LOGS = Path("lightning_logs")
CHECKPOINT = Path("checkpoints", "last.ckpt")
SECTIONS = ("seed_everything", "model", "data")
OF_THE_TRAINER = ("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")
# What may differ between two parts of one run.
INCIDENTAL = {"cache_dir", "max_non_finite_sequences", "torch_compile"}


class NamedRun(NamedTuple):
    """RUN of `validate`, `test` or `predict`, and what the user trusts of it.

    Attributes:
        name: As the user typed it.
        folder: The run folder.
        checkpoint: The checkpoint that is evaluated.
        trust: Import names of packages whose classes the run may name.
        trust_text: Whether any text that the run names is read.
        text: The text that its settings name, once they are read.
    """

    name: str
    folder: Path
    checkpoint: Path
    trust: tuple[str, ...] = ()
    trust_text: bool = False
    text: Any = None

    @property
    def config(self) -> Path:
        """The settings of its training."""
        return self.folder / "config.yaml"


def named_run(run: str, trust: Iterable[str] = (), trust_text: bool = False) -> NamedRun:
    """The run that RUN means: a run folder, a checkpoint in one, or `last`.

    Raises:
        InputError: There is none, or it has no checkpoint.
    """
    try:
        folder, checkpoint = _places(run)
        for path in (folder, folder / "config.yaml", checkpoint):
            if not path.exists():
                raise InputError(
                    f"RUN: {str(path)!r} does not exist; give a run folder such as lightning_logs/version_0."
                )
    except OSError as error:
        raise InputError(f"RUN: {run[:100]!r} cannot be read: {error.strerror}.") from None
    return NamedRun(run, folder, checkpoint, tuple(trust), trust_text)


def _places(run: str) -> tuple[Path, Path]:
    """The run folder and the checkpoint."""
    folder = newest_trained(LOGS) if run == "last" else Path(run)
    if folder.is_file() or (folder / "shards.json").is_file():
        checkpoint, folder = folder, folder.resolve().parent.parent
        if not (folder / "config.yaml").is_file():
            raise InputError(f"RUN: {run!r} is a file in no run folder; give a run folder, or a checkpoint in one.")
        return folder, checkpoint
    if (folder / "config.yaml").exists() and not (folder / CHECKPOINT).exists():
        raise InputError(f"RUN: {str(folder)!r} has no checkpoint yet; see --checkpoint.every_n_steps.")
    return folder, folder / CHECKPOINT


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
        return read_config(path)
    except InputError:
        return {}


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

"""Run folders: each run has one of its own, which no other run writes to, whatever the logger."""

import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from vsae_lightning.errors import InputError
from vsae_lightning.slurm import job_id

NAME = "lightning_logs"


class RunFolder:
    """A folder that is made at once, so that runs started together do not share one.

    The folder is `version_N`, the next that is free; in a SLURM job `slurm_JOB`, if that is.

    Attributes:
        discard: Whether a run that fails without a checkpoint leaves nothing; a folder that was there before stays.
    """

    discard = False
    root_dir: str
    log_dir: str
    _made: Path | None = None
    _lock: FileLock | None = None

    def take(self) -> None:
        """Keep others from training in this folder, until this run is done or its process ends in whatever way.

        Raises:
            InputError: Another process is training in it.
        """
        if self._lock is not None:
            return
        Path(self.log_dir).mkdir(parents=True, exist_ok=True)
        lock = FileLock(Path(self.log_dir) / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(
                f"the run {self.log_dir!r} is being trained by another process; wait, or end it."
            ) from None
        self._lock = lock

    def leave(self, status: str) -> None:
        """Let others train in this folder, and remove it where the run failed and nothing came of it."""
        if self._lock is not None:
            Path(self._lock.lock_file).unlink(missing_ok=True)  # while it is held, or it could be another's
            self._lock.release()
            self._lock = None
        if status == "failed" and self.discard and self._made and not (self._made / "checkpoints").exists():
            shutil.rmtree(self._made, ignore_errors=True)
            with suppress(OSError):  # there are other runs
                self._made.parent.rmdir()

    def go_on(self, folder: Path, step: int) -> None:
        """Write on into the folder of a run, in the place of what it logged from `step` on.

        Raises:
            InputError: Another process is training in it.
        """
        self._go_to(folder, step)
        if getattr(rank_zero_only, "rank", 0) == 0:
            self.take()  # before anything is written into it

    def _go_to(self, folder: Path, step: int) -> None:
        raise NotImplementedError

    def _next_version(self) -> int | str:
        first = getattr(rank_zero_only, "rank", 0) == 0  # the folders of the other ranks are not used
        if job := job_id():
            name = f"slurm_{job}"
            if not first or self._make(name):
                return name
        while True:
            number = _next_number(Path(self.root_dir))
            if not first or self._make(f"version_{number}"):
                return number

    def _make(self, name: str) -> bool:
        """Whether the folder is new, and so this run's."""
        try:
            Path(self.root_dir, name).mkdir(parents=True)
        except FileExistsError:
            return False
        except OSError as error:
            raise InputError(
                f"runs land in {self.root_dir!r}, which cannot be written: {error.strerror}. Give "
                "--trainer.default_root_dir a folder that can."
            ) from None
        self._made = Path(self.root_dir, name)
        return True


class RunLogger(RunFolder, TensorBoardLogger):
    """Lightning's TensorBoard logger, in the folder of the run."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Comes last, when a checkpoint that a stopped run still writes is there."""
        super().finalize(status)
        self.leave(status)

    @property
    def version(self) -> int | str:
        """What the folder is called, `version_N` for N; the folder is made when it is first asked for."""
        if self._version is None:
            self._version = self._next_version()
        return self._version

    def _go_to(self, folder: Path, step: int) -> None:
        self._root_dir, self._name, self._version = str(folder.parent.parent), folder.parent.name, folder.name
        self._kwargs["purge_step"] = step


class FolderLogger(RunFolder, Logger):
    """Logs nothing: the folder of a run whose loggers have none, or have one that runs share.

    Args:
        save_dir: Where the folder `lightning_logs` is.
        name: What that folder is called.
    """

    def __init__(self, save_dir: str | Path = ".", name: str = NAME) -> None:
        super().__init__()
        self._root = Path(save_dir, name)
        self._folder: Path | None = None

    @classmethod
    def beside(cls, logger: CSVLogger | TensorBoardLogger) -> "FolderLogger":
        """The folder of a logger that has one for each run, and that names it now.

        Raises:
            InputError: The logger was given the version of a run that is there.
        """
        made = cls(logger.root_dir, "")
        if logger._version is None:
            logger._version = made.version
        elif Path(logger.log_dir, "config.yaml").exists():
            raise InputError(
                f"trainer.logger: the run {logger.log_dir!r} is there already; give another version, or --ckpt_path to "
                "resume it."
            )
        else:
            made._folder = Path(logger.log_dir)
        return made

    @property
    def root_dir(self) -> str:  # type: ignore[override]
        """Where the folders of runs are."""
        return str(self._root)

    @property
    def name(self) -> str:
        return self._root.name

    @property
    def version(self) -> int | str:
        """As that of `RunLogger`."""
        name = Path(self.log_dir).name
        return int(name.removeprefix("version_")) if re.fullmatch(r"version_\d+", name) else name

    @property
    def log_dir(self) -> str:  # type: ignore[override]
        """The folder, made when it is first asked for."""
        if self._folder is None:
            version = self._next_version()
            self._folder = Path(self.root_dir, version if isinstance(version, str) else f"version_{version}")
        return str(self._folder)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Nothing."""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Comes last, as of `RunLogger`."""
        self.leave(status)

    def _go_to(self, folder: Path, step: int) -> None:
        self._root, self._folder = folder.parent, folder


def with_folder(given: Any, root: str | None, goes_on: bool) -> list[Logger]:
    """The loggers of a fit, with one among them that has the folder of the run.

    Args:
        given: `trainer.logger`, instantiated: a logger, several, or a bool.
        root: `trainer.default_root_dir`; None: the working folder.
        goes_on: Whether the run has a folder already, which the logger is told later.

    Raises:
        InputError: A logger was given the version of a run that is there.
    """
    if given is None or given is True:
        return [RunLogger(root or ".", NAME, default_hp_metric=False)]
    loggers = [] if given is False else list(given) if isinstance(given, list | tuple) else [given]
    own = next((logger for logger in loggers if isinstance(logger, RunFolder)), None)
    if isinstance(own, RunLogger) and root is not None and own._root_dir == ".":
        own._root_dir = root
    if own is not None:
        return loggers
    versioned = (
        None if goes_on else next((one for one in loggers if isinstance(one, CSVLogger | TensorBoardLogger)), None)
    )
    return [*loggers, FolderLogger(root or ".") if versioned is None else FolderLogger.beside(versioned)]


def _next_number(root: Path) -> int:
    names = [path.name for path in root.iterdir()] if root.is_dir() else []
    taken = [int(name.removeprefix("version_")) for name in names if re.fullmatch(r"version_\d+", name)]
    return max(taken, default=-1) + 1

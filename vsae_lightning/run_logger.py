"""The TensorBoard logger of a run: its folder is no other run's."""

import shutil
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from vsae_lightning.errors import InputError
from vsae_lightning.slurm import job_id


class RunLogger(TensorBoardLogger):
    """Lightning's logger, in a folder that is made at once, so that runs started together do not share one.

    The folder is `version_N`, the next that is free; in a SLURM job `slurm_JOB`, if that is.

    Attributes:
        discard: Whether a run that fails without a checkpoint leaves nothing; a folder that was there before stays.
    """

    discard = False
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

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Comes last, when a checkpoint that a stopped run still writes is there."""
        super().finalize(status)
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
        self._root_dir, self._name, self._version = str(folder.parent.parent), folder.parent.name, folder.name
        self._kwargs["purge_step"] = step
        if getattr(rank_zero_only, "rank", 0) == 0:
            self.take()  # before anything is written into it

    @property
    def version(self) -> int | str:
        """What the folder is called, `version_N` for N; the folder is made when it is first asked for."""
        if self._version is None:
            self._version = self._next_version()
        return self._version

    def _next_version(self) -> int | str:
        first = getattr(rank_zero_only, "rank", 0) == 0  # the folders of the other ranks are not used
        if job := job_id():
            name = f"slurm_{job}"
            if not first or self._make(name):
                return name
        while True:
            number = self._get_next_version()
            if not first or self._make(f"version_{number}"):
                return number

    def _make(self, name: str) -> bool:
        """Whether the folder is new, and so this run's."""
        try:
            Path(self.root_dir, name).mkdir(parents=True)
        except FileExistsError:
            return False
        self._made = Path(self.root_dir, name)
        return True

"""The TensorBoard logger of a run: its folder is no other run's."""

from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from vsae_lightning.slurm import job_id


class RunLogger(TensorBoardLogger):
    """Lightning's logger, in a folder that is made at once, so that runs started together do not share one.

    The folder is `version_N`, the next that is free; in a SLURM job `slurm_JOB`, if that is.
    """

    def go_on(self, folder: Path, step: int) -> None:
        """Write on into the folder of a run, in the place of what it logged from `step` on."""
        self._root_dir, self._name, self._version = str(folder.parent.parent), folder.parent.name, folder.name
        self._kwargs["purge_step"] = step

    def _get_next_version(self) -> int | str:  # type: ignore[override]
        first = getattr(rank_zero_only, "rank", 0) == 0  # the folders of the other ranks are not used
        if job := job_id():
            name = f"slurm_{job}"
            if not first or _make(Path(self.root_dir, name)):
                return name
        while True:
            number = super()._get_next_version()
            if not first or _make(Path(self.root_dir, f"version_{number}")):
                return number


def _make(folder: Path) -> bool:
    """Whether this process made the folder."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True

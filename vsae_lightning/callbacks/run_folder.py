"""Where an evaluation writes: into the folder of the run whose checkpoint it reads."""

from pathlib import Path

from lightning.pytorch import Trainer


def run_folder(trainer: Trainer) -> Path:
    """The folder of the run whose checkpoint is evaluated.

    A link is not followed: a stranger's run could have one to the checkpoint of another run, whose results would then
    be replaced.
    """
    assert trainer.ckpt_path is not None
    folder = Path(trainer.ckpt_path).absolute().parent
    return folder.parent if folder.name == "checkpoints" else folder

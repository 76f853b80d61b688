"""Where an evaluation writes: into the folder of the run whose checkpoint it reads."""

from pathlib import Path

from lightning.pytorch import Trainer


def run_folder(trainer: Trainer) -> Path:
    """The folder of the run whose checkpoint is evaluated."""
    assert trainer.ckpt_path is not None
    folder = Path(trainer.ckpt_path).resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder

"""Where an evaluation writes: into the folder of the run whose checkpoint it reads."""

from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from vsae_lightning.run_logger import RunFolder


def run_folder(trainer: Trainer) -> Path:
    """The folder of the run whose checkpoint is evaluated.

    A link is not followed: a stranger's run could have one to the checkpoint of another run, whose results would then
    be replaced.
    """
    assert trainer.ckpt_path is not None
    folder = Path(trainer.ckpt_path).absolute().parent
    return folder.parent if folder.name == "checkpoints" else folder


def run_logger(trainer: Trainer) -> RunFolder | None:
    """The logger that has the folder of the run; None for a trainer made in Python with other loggers."""
    return next((logger for logger in trainer.loggers if isinstance(logger, RunFolder)), None)


def fit_folder(trainer: Trainer) -> Path | None:
    """The folder of the run that is trained; None where nothing is kept of it. Every rank asks together."""
    own = run_logger(trainer)
    folder = trainer.log_dir if own is None else trainer.strategy.broadcast(own.log_dir)
    return None if folder is None else Path(folder)


def tensorboard(trainer: Trainer) -> TensorBoardLogger | None:
    """The first logger that takes pictures, texts and histograms, on the first rank."""
    found = next((logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)
    return found if trainer.is_global_zero else None

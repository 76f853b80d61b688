"""One checkpoint per run: the last."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from vsae_lightning.errors import InputError


class LastCheckpoint(ModelCheckpoint):
    """Keeps `checkpoints/last.ckpt`: replaced every `every_n_steps` steps, and at the end of the run.

    Args:
        every_n_steps: Optimizer steps between two checkpoints.

    Raises:
        InputError: every_n_steps is smaller than 1.
    """

    def __init__(self, every_n_steps: int = 1000) -> None:
        if every_n_steps < 1:
            raise InputError(f"checkpoint.every_n_steps is {every_n_steps}; it must be at least 1.")
        super().__init__(filename="last", every_n_train_steps=every_n_steps, enable_version_counter=False)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: which file is the last is known from the folder, and a resumed run has another."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._last_global_step_saved != trainer.global_step and not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

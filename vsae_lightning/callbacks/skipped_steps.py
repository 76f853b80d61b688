"""Steps that were skipped, because a loss or a gradient was not finite."""

from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from vsae_lightning.errors import InputError, RunStopped
from vsae_lightning.log_keys import is_logged, log_key

if TYPE_CHECKING:
    from vsae_lightning.modules.base import AutoencoderModule
    from vsae_lightning.modules.members import MembersModule


class SkippedSteps(Callback):
    """Logs `train/skipped_steps`, and stops the run, with a checkpoint, when there are too many of them.

    Args:
        max_skipped_steps: Over all of the run; one more stops it.

    Raises:
        InputError: max_skipped_steps is negative.
    """

    def __init__(self, max_skipped_steps: int = 100) -> None:
        if max_skipped_steps < 0:
            raise InputError(f"skipped_steps.max_skipped_steps is {max_skipped_steps}; it must not be negative.")
        self.max_skipped_steps = max_skipped_steps

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        for name, skipped in _skipped(pl_module).items():
            if skipped > self.max_skipped_steps:
                raise RunStopped(
                    f"{name + ': ' if name else ''}{skipped} steps were skipped, for their loss or gradient was not "
                    f"finite (skipped_steps.max_skipped_steps is {self.max_skipped_steps}): stopped",
                    trainer.global_step,
                )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if is_logged(trainer, trainer.global_step):
            values = {log_key("train", name, "skipped_steps"): float(n) for name, n in _skipped(pl_module).items()}
            pl_module.log_dict(values)


def _skipped(pl_module: LightningModule) -> dict[str, int]:
    members = cast("MembersModule", pl_module).members()
    return {name: cast("AutoencoderModule", member).finite_steps.skipped for name, member in members.items()}

"""The progress bar of a training run."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

SHOWN = {
    "train/loss": ("loss", "{:.4g}"),
    "train/explained_variance": ("explained variance", "{:.3f}"),
    "train/l0": ("L0", "{:.1f}"),
    "train/dead_fraction": ("dead", "{:.1%}"),
    "train/tokens_per_second": ("tokens/s", "{:,.0f}"),
}


class TrainingProgress(TQDMProgressBar):
    """Steps done, with loss, explained variance, L0, dead fraction and tokens per second.

    Args:
        refresh_rate: Steps between two updates; each reads a few numbers from the device.
    """

    def __init__(self, refresh_rate: int = 20) -> None:
        super().__init__(refresh_rate=refresh_rate, leave=True)

    @property
    def train_description(self) -> str:
        return "Training"

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        super().on_train_epoch_start(trainer)
        self._show_total(trainer)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if self.train_progress_bar.total is None:  # a run that goes on begins within its epoch
            self._show_total(trainer)

    def _show_total(self, trainer: Trainer) -> None:
        self.train_progress_bar.total = trainer.max_steps * trainer.accumulate_grad_batches
        self.train_progress_bar.set_description(self.train_description)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        known = trainer.callback_metrics
        return {label: form.format(float(known[key])) for key, (label, form) in SHOWN.items() if key in known}

"""How many latents are active per token, and how often each latent is."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from vsae_lightning.errors import InputError


class Sparsity(Callback):
    """Logs `train/l0` (mean over this rank's tokens), `train/l0_std` (spread), and a histogram of feature density.

    The density of a latent is the fraction of tokens, since the last histogram, in which it fired; the
    histogram `train/log10_density` is of its logarithm, with latents that never fired at the left end.

    Args:
        histogram_every_n_steps: Steps between two histograms.

    Raises:
        InputError: histogram_every_n_steps is smaller than 1.
    """

    def __init__(self, histogram_every_n_steps: int = 500) -> None:
        if histogram_every_n_steps < 1:
            raise InputError(f"sparsity.histogram_every_n_steps is {histogram_every_n_steps}; it must be at least 1.")
        self.histogram_every_n_steps = histogram_every_n_steps
        self._firing_counts: Tensor | None = None
        self._tokens = 0
        self._logged_step = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        active = outputs["active_per_row"].float()
        pl_module.log_dict({"train/l0": active.mean(), "train/l0_std": active.std()})
        counts = outputs["firing_counts"]
        self._firing_counts = counts if self._firing_counts is None else self._firing_counts + counts
        self._tokens += len(active) * trainer.world_size
        step = trainer.global_step  # the same for all batches whose gradients are accumulated
        if step % self.histogram_every_n_steps == 0 and step != self._logged_step:
            self._log_histogram(trainer)
            self._logged_step = step

    def _log_histogram(self, trainer: Trainer) -> None:
        assert self._firing_counts is not None
        if isinstance(trainer.logger, TensorBoardLogger) and trainer.is_global_zero:
            floor = 0.1 / self._tokens
            density = (self._firing_counts.float() / self._tokens).clamp_min(floor)
            trainer.logger.experiment.add_histogram("train/log10_density", torch.log10(density), trainer.global_step)
        self._firing_counts, self._tokens = None, 0

"""How many latents are active per token, and how often each latent is."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from vsae_lightning.callbacks.run_folder import tensorboard
from vsae_lightning.errors import InputError
from vsae_lightning.log_keys import is_logged, log_key


class Sparsity(Callback):
    """Logs `train/l0` (mean over tokens), `train/l0_std` (their spread), and a histogram of feature density.

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
        self._firing_counts: dict[str, Tensor] = {}
        self._tokens = 0
        self._logged_step = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for name, result in outputs["members"].items():
            if is_logged(trainer, trainer.global_step):
                l0, spread = result.l0
                pl_module.log_dict({log_key("train", name, "l0"): l0, log_key("train", name, "l0_std"): spread})
            counted = result.firing_counts
            if name in self._firing_counts:
                counted = counted + self._firing_counts[name].to(counted.device)
            self._firing_counts[name] = counted
        self._tokens += len(batch.activations) * trainer.world_size
        step = trainer.global_step  # the same for all batches whose gradients are accumulated
        if step % self.histogram_every_n_steps == 0 and step != self._logged_step:
            self._log_histogram(trainer)
            self._logged_step = step

    def state_dict(self) -> dict[str, Any]:
        """What the next histogram is made of; it is the same on every rank."""
        counts = {name: counted.cpu() for name, counted in self._firing_counts.items()}
        return {"firing_counts": counts, "tokens": self._tokens, "logged_step": self._logged_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._firing_counts = state_dict["firing_counts"]
        self._tokens, self._logged_step = state_dict["tokens"], state_dict["logged_step"]

    def _log_histogram(self, trainer: Trainer) -> None:
        if (logger := tensorboard(trainer)) is not None:
            floor = 0.1 / self._tokens
            for name, counts in self._firing_counts.items():
                density = torch.log10((counts.float() / self._tokens).clamp_min(floor))
                key = log_key("train", name, "log10_density")
                logger.experiment.add_histogram(key, density, trainer.global_step - 1)  # the step of the scalars
        self._firing_counts, self._tokens = {}, 0

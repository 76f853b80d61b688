"""The threshold by which a TopK autoencoder can be used without comparing latents with each other."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

MOMENTUM = 0.999


class InferenceThreshold(nn.Module):
    """Moving average of the smallest positive selected score (in an SAE: activation) of a row, over the batch.

    theta <- 0.999 theta + 0.001 mean_rows min {f_j : f_j > 0} (Bussmann et al. 2024, arXiv 2412.06410). It is
    stored in the checkpoint, in the latents' units; -1 until the first batch.
    """

    value: Float[Tensor, ""]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(-1.0))

    @torch.no_grad()
    def update(
        self, selected: Float[Tensor, "batch k"], rank_mean: Callable[[Tensor], Tensor] = lambda local: local
    ) -> None:
        """Take in the selected scores of one batch; rows without any positive one do not count."""
        values = selected.float()
        smallest = torch.where(values > 0, values, torch.inf).amin(-1)
        counted = smallest.isfinite()
        total = rank_mean(torch.where(counted, smallest, 0.0).sum())
        mean = total / rank_mean(counted.float().sum()).clamp_min(1e-9)
        averaged = torch.where(self.value < 0, mean, MOMENTUM * self.value + (1 - MOMENTUM) * mean)
        self.value.copy_(torch.where(total > 0, averaged, self.value))

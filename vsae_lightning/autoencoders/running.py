"""A running mean of a scalar that training observes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class RunningMean(nn.Module):
    """m <- m + max(1 / n, rate) (v - m): the plain mean of the first 1 / rate values, a moving average from then on.

    `initial` counts for nothing once a value was observed. The mean is a buffer, and so part of every checkpoint.
    """

    value: Float[Tensor, ""]
    count: Int[Tensor, ""]

    def __init__(self, initial: float, rate: float = 0.01) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("value", torch.tensor(initial))
        self.register_buffer("count", torch.tensor(0))

    @torch.no_grad()
    def update(self, observed: Float[Tensor, ""]) -> None:
        """Take in one value, if it is finite; on the device, without a sync."""
        finite = observed.isfinite()
        self.count += finite
        weight = (1 / self.count.clamp_min(1)).clamp_min(self.rate)
        self.value += torch.where(finite, weight * (observed.to(self.value.dtype) - self.value), 0.0)

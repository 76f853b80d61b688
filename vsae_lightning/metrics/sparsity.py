"""How many latents are active, and which never are."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric


class L0(Metric):
    """The mean over rows of the number of active latents."""

    full_state_update = False
    count: Tensor
    active: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("active", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, active_per_row: Int[Tensor, " batch"]) -> None:
        self.count += len(active_per_row)
        self.active += active_per_row.sum()

    def compute(self) -> Float[Tensor, ""]:
        return (self.active.double() / self.count).float()


class FeatureDensity(Metric):
    """The fraction of rows in which each latent is active."""

    full_state_update = False
    rows: Tensor
    firing_counts: Tensor

    def __init__(self, d_sae: int) -> None:
        super().__init__()
        self.add_state("rows", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("firing_counts", torch.zeros(d_sae, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, firing_counts: Int[Tensor, " d_sae"], rows: int) -> None:
        self.rows += rows
        self.firing_counts += firing_counts

    def compute(self) -> Float[Tensor, " d_sae"]:
        return (self.firing_counts.double() / self.rows).reshape(-1)


class DensityHistogram(NamedTuple):
    """How many latents have which log10 density.

    Attributes:
        edges: Of the bins, one more than there are; the lowest bin holds whatever is lower, too.
        counts: Latents per bin.
        never: Latents that never fired, which are in no bin.
    """

    edges: list[float]
    counts: list[int]
    never: int


def density_histogram(density: Float[Tensor, " d_sae"]) -> DensityHistogram:
    """The histogram of log10 density, in bins of a quarter from -7 to 0: the same for all autoencoders."""
    edges = torch.linspace(-7, 0, 29, dtype=torch.float64)
    fired = density[density > 0].double().cpu().log10().clamp(-7, 0)
    counts = torch.histogram(fired, edges).hist.long().tolist()
    return DensityHistogram(edges.tolist(), counts, int((density == 0).sum()))

"""How many latents are active, and which never are."""

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


class DeadFraction(Metric):
    """The fraction of latents that are active in no row of the split."""

    higher_is_better = False
    full_state_update = False
    firing_counts: Tensor

    def __init__(self, d_sae: int) -> None:
        super().__init__()
        self.add_state("firing_counts", torch.zeros(d_sae, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, firing_counts: Int[Tensor, " d_sae"]) -> None:
        self.firing_counts += firing_counts

    def compute(self) -> Float[Tensor, ""]:
        return (self.firing_counts == 0).float().mean()

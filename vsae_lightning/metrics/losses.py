"""The terms of the loss over a held-out split."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric


class RowMeans(Metric):
    """The mean over rows of values that are each the mean over the rows of a batch, whatever their number.

    Args:
        names: Of the values; those that were never given are left out.
    """

    full_state_update = False
    rows: Tensor
    sums: Tensor

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.add_state("rows", torch.zeros(len(names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("sums", torch.zeros(len(names), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, values: Mapping[str, Float[Tensor, ""]], rows: int) -> None:
        for index, name in enumerate(self.names):
            if name in values and rows:  # the mean over no rows is nan
                self.rows[index] += rows
                self.sums[index] += rows * values[name].double()

    def compute(self) -> dict[str, Float[Tensor, ""]]:
        means = (self.sums / self.rows).float()
        return {name: means[index] for index, name in enumerate(self.names) if self.rows[index] > 0}

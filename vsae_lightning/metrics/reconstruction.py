"""How well x_hat reconstructs x."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric


class ExplainedVariance(Metric):
    """1 - sum ||x - x_hat||^2 / sum ||x - mean(x)||^2, with the mean over the whole split.

    Accumulated in float64. 1 is perfect, 0 is what the constant mean(x) reaches.
    """

    higher_is_better = True
    full_state_update = False
    count: Tensor
    sum_x: Tensor
    sum_squared_norm: Tensor
    sum_squared_error: Tensor

    def __init__(self, d_in: int) -> None:
        super().__init__()
        zero = torch.zeros((), dtype=torch.float64)
        self.add_state("count", zero.clone(), dist_reduce_fx="sum")
        self.add_state("sum_x", torch.zeros(d_in, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("sum_squared_norm", zero.clone(), dist_reduce_fx="sum")
        self.add_state("sum_squared_error", zero.clone(), dist_reduce_fx="sum")

    def update(self, x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"]) -> None:
        x, x_hat = x.double(), x_hat.double()
        self.count += len(x)
        self.sum_x += x.sum(0)
        self.sum_squared_norm += x.square().sum()
        self.sum_squared_error += (x - x_hat).square().sum()

    def compute(self) -> Float[Tensor, ""]:
        total = self.sum_squared_norm - self.sum_x.square().sum() / self.count
        return (1 - self.sum_squared_error / total).float()


class ReconstructionCosine(Metric):
    """The mean over rows of <x, x_hat> / (||x|| ||x_hat||)."""

    higher_is_better = True
    full_state_update = False
    count: Tensor
    sum_cosine: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("sum_cosine", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"]) -> None:
        self.count += len(x)
        self.sum_cosine += torch.nn.functional.cosine_similarity(x.float(), x_hat.float(), dim=-1).sum()

    def compute(self) -> Float[Tensor, ""]:
        return (self.sum_cosine / self.count).float()

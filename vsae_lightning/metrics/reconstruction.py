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


class ExplainedVariances(Metric):
    """`ExplainedVariance` of the rows that training keeps; and of all rows, where some were left out.

    - `explained_variance`: of the kept rows alone.
    - `explained_variance_all_rows`, `left_out_fraction`: of kept and left-out rows together, and the share of the
      latter. Both are there only where a row was left out.
    """

    higher_is_better = True
    full_state_update = False
    count: Tensor
    sum_x: Tensor
    sum_squared_norm: Tensor
    sum_squared_error: Tensor

    def __init__(self, d_in: int) -> None:
        super().__init__()
        for name in ("count", "sum_squared_norm", "sum_squared_error"):
            self.add_state(name, torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("sum_x", torch.zeros(2, d_in, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self, x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"], left_out: bool = False
    ) -> None:
        x, x_hat, kind = x.double(), x_hat.double(), int(left_out)
        self.count[kind] += len(x)
        self.sum_x[kind] += x.sum(0)
        self.sum_squared_norm[kind] += x.square().sum()
        self.sum_squared_error[kind] += (x - x_hat).square().sum()

    def compute(self) -> dict[str, Float[Tensor, ""]]:
        values = {"explained_variance": self._explained(slice(0, 1))}
        if self.count[1] > 0:
            values["explained_variance_all_rows"] = self._explained(slice(0, 2))
            values["left_out_fraction"] = (self.count[1] / self.count.sum()).float()
        return values

    def _explained(self, kinds: slice) -> Float[Tensor, ""]:
        sum_x, count = self.sum_x[kinds].sum(0), self.count[kinds].sum()
        total = self.sum_squared_norm[kinds].sum() - sum_x.square().sum() / count
        return (1 - self.sum_squared_error[kinds].sum() / total).float()


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


class ReconstructionError(Metric):
    """`mse`: mean of (x - x_hat)^2 over rows and dimensions; `relative_error`: sum ||x - x_hat||^2 / sum ||x||^2."""

    higher_is_better = False
    full_state_update = False
    count: Tensor
    sum_squared_error: Tensor
    sum_squared_norm: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("count", "sum_squared_error", "sum_squared_norm"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"]) -> None:
        x, x_hat = x.float(), x_hat.float()
        self.count += x.numel()
        self.sum_squared_error += (x - x_hat).square().sum(-1).double().sum()
        self.sum_squared_norm += x.square().sum(-1).double().sum()

    def compute(self) -> dict[str, Float[Tensor, ""]]:
        values = {
            "mse": self.sum_squared_error / self.count,
            "relative_error": self.sum_squared_error / self.sum_squared_norm,
        }
        return {name: value.float() for name, value in values.items()}


class Shrinkage(Metric):
    """How much shorter the reconstruction is; below 1 it is.

    - `l2_ratio`: the mean over rows, without those that are 0, of ||x_hat|| / ||x||.
    - `relative_reconstruction_bias`: gamma = E||x_hat||^2 / E<x, x_hat>, for which x_hat / gamma is the best
      rescaling (Rajamanoharan et al. 2024, arXiv 2404.16014, equation 10).
    """

    full_state_update = False
    count: Tensor
    sum_ratio: Tensor
    sum_squared_norm_hat: Tensor
    sum_product: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("count", "sum_ratio", "sum_squared_norm_hat", "sum_product"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"]) -> None:
        x, x_hat = x.float(), x_hat.float()
        norm, norm_hat = x.norm(dim=-1), x_hat.norm(dim=-1)
        self.count += (norm > 0).sum()
        self.sum_ratio += torch.where(norm > 0, norm_hat / norm, 0).double().sum()
        self.sum_squared_norm_hat += norm_hat.double().square().sum()
        self.sum_product += (x * x_hat).sum(-1).double().sum()

    def compute(self) -> dict[str, Float[Tensor, ""]]:
        values = {
            "l2_ratio": self.sum_ratio / self.count,
            "relative_reconstruction_bias": self.sum_squared_norm_hat / self.sum_product,
        }
        return {name: value.float() for name, value in values.items()}


class Recalibration(Metric):
    """The scale a (a number) and offset c (a vector) that minimise sum ||x - (a x_hat + c)||^2, in closed form.

    a = E<x - E x, x_hat - E x_hat> / E||x_hat - E x_hat||^2 and c = E x - a E x_hat. It is the mean reading
    a (x_hat - b_dec) + b of an autoencoder, with b = c + a b_dec. Accumulated in float64.
    """

    full_state_update = False
    count: Tensor
    sum_x: Tensor
    sum_x_hat: Tensor
    sum_product: Tensor
    sum_squared_norm_hat: Tensor

    def __init__(self, d_in: int) -> None:
        super().__init__()
        for name in ("count", "sum_product", "sum_squared_norm_hat"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("sum_x", "sum_x_hat"):
            self.add_state(name, torch.zeros(d_in, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"]) -> None:
        x, x_hat = x.double(), x_hat.double()
        self.count += len(x)
        self.sum_x += x.sum(0)
        self.sum_x_hat += x_hat.sum(0)
        self.sum_product += (x * x_hat).sum()
        self.sum_squared_norm_hat += x_hat.square().sum()

    def compute(self) -> tuple[Float[Tensor, ""], Float[Tensor, " d_in"]]:
        mean, mean_hat = self.sum_x / self.count, self.sum_x_hat / self.count
        covariance = self.sum_product / self.count - mean @ mean_hat
        variance = self.sum_squared_norm_hat / self.count - mean_hat @ mean_hat
        scale = torch.where(variance > 0, covariance / variance, 1.0)  # of a constant x_hat any scale is as good
        return scale.float(), (mean - scale * mean_hat).float()


class MeanActivation(Metric):
    """The mean over rows of x."""

    full_state_update = False
    count: Tensor
    sum_x: Tensor

    def __init__(self, d_in: int) -> None:
        super().__init__()
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("sum_x", torch.zeros(d_in, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, x: Float[Tensor, "batch d_in"]) -> None:
        self.count += len(x)
        self.sum_x += x.double().sum(0)

    def compute(self) -> Float[Tensor, " d_in"]:
        return (self.sum_x / self.count).float()

"""Reconstruction as SAEBench's core evaluation has it, formula by formula, with what is odd in some of them."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

SUMS = (
    "l2_norm_in",
    "l2_norm_out",
    "l2_ratio",
    "cossim",
    "explained_variance_legacy",
    "mse",
    "relative_reconstruction_bias",
    "squared_norm",
    "squared_activation",
    "squared_error",
)
PER_BATCH = SUMS[-4:]


class SAEBenchReconstruction(Metric):
    """SAEBench 0.6.0, evals/core/main.py, `get_sparsity_and_variance_metrics`; to be compared with its numbers alone.

    Four values are not what their names say, and depend on the size of a batch B (of n rows):

    - `explained_variance`: 1 - E||x - x_hat||^2 / (E||x||^2 - (E x_i^2)^2), the last mean over rows and dimensions:
      it subtracts the square of the mean square where the squared norm of the mean is due. See `ExplainedVariance`.
    - `explained_variance_legacy`: the mean over rows of 1 - ||x - x_hat||^2 / ||x - mean_B(x)||^2.
    - `mse`: the mean over rows of ||x - x_hat||^2 / n. See `ReconstructionError`.
    - `relative_reconstruction_bias`: the mean over batches of E_B||x_hat||^2 / E_B<x, x_hat>. See `Shrinkage`.
    """

    full_state_update = False
    rows: Tensor
    batches: Tensor
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("batches", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("sums", torch.zeros(len(SUMS), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"]) -> None:
        x, x_hat = x.double(), x_hat.double()
        norm, norm_hat, product = x.norm(dim=-1), x_hat.norm(dim=-1), (x * x_hat).sum(-1)
        error = (x - x_hat).square().sum(-1)
        spread = (x - x.mean(0)).square().sum(-1)
        values = {
            "l2_norm_in": norm.sum(),
            "l2_norm_out": norm_hat.sum(),
            "l2_ratio": (norm_hat / torch.where(norm < 1e-4, 1, norm)).sum(),
            "cossim": (product / (norm * norm_hat)).sum(),
            "explained_variance_legacy": (1 - error / spread).sum(),
            "mse": error.mean(),
            "relative_reconstruction_bias": norm_hat.square().mean() / product.mean(),
            "squared_norm": norm.square().mean(),
            "squared_activation": x.square().mean(),
            "squared_error": error.mean(),
        }
        self.rows += len(x)
        self.batches += 1
        self.sums += torch.stack([values[name] for name in SUMS])

    def compute(self) -> dict[str, Float[Tensor, ""]]:
        sums = dict(zip(SUMS, self.sums, strict=True))
        means = {name: value / (self.batches if name in PER_BATCH else self.rows) for name, value in sums.items()}
        squared_norm, squared_activation, squared_error = (means.pop(name) for name in SUMS[-3:])
        means["explained_variance"] = 1 - squared_error / (squared_norm - squared_activation.square())
        return {name: value.float() for name, value in means.items()}

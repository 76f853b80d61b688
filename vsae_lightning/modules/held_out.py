"""The metrics of a held-out split."""

from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import Metric

from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.metrics import (
    L0,
    DensityHistogram,
    ExplainedVariances,
    FeatureDensity,
    ReconstructionCosine,
    ReconstructionError,
    RowMeans,
    Shrinkage,
    density_histogram,
)
from vsae_lightning.modules.terms import LossTerms


class HeldOutMetrics(nn.Module):
    """How well held-out activations are reconstructed, in raw units; which latents fire; the terms of the loss.

    Attributes:
        log10_density: The histogram of the last evaluation; None before the first.
    """

    def __init__(self, d_in: int, d_sae: int) -> None:
        super().__init__()
        self.explained_variance = ExplainedVariances(d_in)
        self.cosine = ReconstructionCosine()
        self.error = ReconstructionError()
        self.shrinkage = Shrinkage()
        self.l0 = L0()
        self.density = FeatureDensity(d_sae)
        self.losses = RowMeans(tuple(name for name in ("loss", *LossTerms._fields) if not name.endswith("_weight")))
        self.log10_density: DensityHistogram | None = None

    def update(
        self, x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"], latents: Latents, terms: LossTerms
    ) -> None:
        """Take in one batch of raw activations, their reconstructions, and the terms of their loss."""
        self.explained_variance.update(x, x_hat)
        self.cosine.update(x, x_hat)
        self.error.update(x, x_hat)
        self.shrinkage.update(x, x_hat)
        self.l0.update(latents.active_per_row())
        self.density.update(latents.firing_counts(), len(x))
        self.losses.update({name: x for name, x in terms.named().items() if isinstance(x, Tensor)}, len(x))

    def update_left_out(self, x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"]) -> None:
        """Take in rows that training leaves out: they count in `explained_variance_all_rows` alone."""
        self.explained_variance.update(x, x_hat, left_out=True)

    def compute(self, target_l0: int | None = None) -> dict[str, Tensor]:
        """Every metric over what was taken in, on all ranks; and start anew.

        With a target, `l0_off_target` is L0 / target - 1.
        """
        density = self.density.compute()
        alive = (density > 0).float().mean()
        values = {**self.explained_variance.compute(), "cosine": self.cosine.compute(), "l0": self.l0.compute()}
        values |= {**self.error.compute(), **self.shrinkage.compute(), **self.losses.compute()}
        values |= {} if target_l0 is None else {"l0_off_target": values["l0"] / target_l0 - 1}
        values |= {"dead_fraction": 1 - alive, "alive_fraction": alive}
        self.log10_density = density_histogram(density)
        for metric in self.children():
            assert isinstance(metric, Metric)
            metric.reset()
        return values

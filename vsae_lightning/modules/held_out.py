"""The metrics of a held-out split."""

from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import Metric

from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.metrics import L0, DeadFraction, ExplainedVariance, ReconstructionCosine, RowMeans
from vsae_lightning.modules.terms import LossTerms


class HeldOutMetrics(nn.Module):
    """Explained variance and cosine in raw units, L0, the fraction of latents that never fired, and the loss terms."""

    def __init__(self, d_in: int, d_sae: int) -> None:
        super().__init__()
        self.explained_variance = ExplainedVariance(d_in)
        self.cosine = ReconstructionCosine()
        self.l0 = L0()
        self.dead_fraction = DeadFraction(d_sae)
        self.losses = RowMeans(tuple(name for name in ("loss", *LossTerms._fields) if not name.endswith("_weight")))

    def update(
        self, x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"], latents: Latents, terms: LossTerms
    ) -> None:
        """Take in one batch of raw activations, their reconstructions, and the terms of their loss."""
        self.explained_variance.update(x, x_hat)
        self.cosine.update(x, x_hat)
        self.l0.update(latents.active_per_row())
        self.dead_fraction.update(latents.firing_counts())
        self.losses.update({name: x for name, x in terms.named().items() if isinstance(x, Tensor)}, len(x))

    def compute(self) -> dict[str, Tensor]:
        """Every metric over what was taken in, on all ranks; and start anew."""
        metrics = {name: metric for name, metric in self.named_children() if isinstance(metric, Metric)}
        values = {name: metric.compute() for name, metric in metrics.items() if name != "losses"}
        values |= self.losses.compute()
        for metric in metrics.values():
            metric.reset()
        return values

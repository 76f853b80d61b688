"""The metrics of a held-out split."""

from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import Metric

from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.metrics import L0, DeadFraction, ExplainedVariance, ReconstructionCosine


class HeldOutMetrics(nn.Module):
    """Explained variance and cosine in raw units, L0, and the fraction of latents that never fired."""

    def __init__(self, d_in: int, d_sae: int) -> None:
        super().__init__()
        self.explained_variance = ExplainedVariance(d_in)
        self.cosine = ReconstructionCosine()
        self.l0 = L0()
        self.dead_fraction = DeadFraction(d_sae)

    def update(self, x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"], latents: Latents) -> None:
        """Take in one batch of raw activations and their reconstructions."""
        self.explained_variance.update(x, x_hat)
        self.cosine.update(x, x_hat)
        self.l0.update(latents.active_per_row())
        self.dead_fraction.update(latents.firing_counts())

    def compute(self) -> dict[str, Tensor]:
        """Every metric over what was taken in, on all ranks; and start anew."""
        metrics = {name: metric for name, metric in self.named_children() if isinstance(metric, Metric)}
        values = {name: metric.compute() for name, metric in metrics.items()}
        for metric in metrics.values():
            metric.reset()
        return values

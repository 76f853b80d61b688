"""An autoencoder read in other ways than at its mean: recalibrated, and as the mean of samples."""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.samples import Samples
from vsae_lightning.autoencoders.variational import Select
from vsae_lightning.metrics import L0, ExplainedVariance, Recalibration

READING_ROWS = 8192  # of training, over all ranks, to which readings are fitted
ROWS_AT_ONCE = 1024


class Readings:
    """Explained variance of held-out rows by readings that are fitted to training rows.

    A model that trains on samples is off its calibration at the mean: E[TopK(z)] is not TopK(mu). `recalibrated` is
    a (x_hat - b_dec) + b with x_hat the reconstruction at the mean, one number a and one vector b, fitted by least
    squares to training rows. `sampled` is the mean reconstruction of 16 samples, each with k latents per row.

    Args:
        autoencoder: The autoencoder, which may expect scaled activations.
        mean: Subtracted from raw activations first.
        scale: Their factor then.
        select: Whether latents are selected by the sample or by the mean, where the posterior is diagonal.
    """

    def __init__(
        self,
        autoencoder: SparseAutoencoder,
        mean: Float[Tensor, " d_in"],
        scale: Float[Tensor, ""],
        select: Select = "sample",
    ) -> None:
        d_in, device = autoencoder.d_in, mean.device
        self.mean, self.scale = mean, scale
        self.recalibration = Recalibration(d_in).to(device)
        self.recalibrated, self.sampled = (ExplainedVariance(d_in).to(device) for _ in range(2))
        self.l0 = L0().to(device)
        self.samples = Samples(autoencoder, select) if Samples.can_sample(autoencoder) else None
        self._rows: list[Tensor] = []
        self._fit: tuple[Tensor, Tensor] | None = None

    def take(self, x: Float[Tensor, "rows d_in"], x_hat: Float[Tensor, "rows d_in"]) -> None:
        """Take in raw training rows of this rank, and their reconstructions at the mean."""
        self.recalibration.update(x, x_hat)
        if self.samples is not None:
            self._rows.append(self._scaled(x))

    def fit(self) -> None:
        """Fit to the rows that all ranks took in."""
        self._fit = self.recalibration.compute()
        if self.samples is not None:
            own = torch.cat(self._rows)
            x = torch.cat(gather_all_tensors(own)) if dist.is_initialized() else own
            self.samples.calibrate(x.split(ROWS_AT_ONCE), len(x))
        self._rows.clear()

    def update(self, x: Float[Tensor, "rows d_in"], x_hat: Float[Tensor, "rows d_in"]) -> None:
        """Take in raw held-out rows, and their reconstructions at the mean."""
        assert self._fit is not None
        scale, offset = self._fit
        self.recalibrated.update(x, scale * x_hat + offset)
        for rows in x.split(ROWS_AT_ONCE) if self.samples is not None else ():
            assert self.samples is not None
            read = self.samples.read(self._scaled(rows))
            self.sampled.update(rows, read.x_hat / self.scale + self.mean)
            self.l0.update(read.active.flatten())

    def compute(self) -> dict[str, Tensor]:
        """The metrics by their names; those of samples only where the model samples."""
        assert self._fit is not None
        values = {
            "explained_variance_recalibrated": self.recalibrated.compute(),
            "recalibration_scale": self._fit[0],
        }
        if self.samples is not None:
            values |= {"explained_variance_sampled": self.sampled.compute(), "l0_sampled": self.l0.compute()}
        return values

    def _scaled(self, x: Float[Tensor, "rows d_in"]) -> Float[Tensor, "rows d_in"]:
        return (x.float() - self.mean) * self.scale

"""A sampled model read as it trained: not at the posterior mean, but as the mean of sparse samples."""

from collections.abc import Iterable
from copy import deepcopy
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.draw import Draw
from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.autoencoders.variational import Select, VariationalAutoencoder
from vsae_lightning.seeding import generator

SAMPLES = 16
AFTER_ALL_WARMUPS = 2**31


class MeanOfSamples(NamedTuple):
    """What some rows give.

    Attributes:
        x_hat: The mean of the reconstructions of all samples.
        active: Active latents of every sample of each row.
    """

    x_hat: Float[Tensor, "rows d_in"]
    active: Int[Tensor, "samples rows"]


class Samples:
    """Reads an autoencoder as the mean of 16 samples, each as sparse as training has them, from a fixed generator.

    A sample goes through the sparsifier as evaluation does it, row by row. The threshold of BatchTopK is another than
    that of the mean, since samples are larger: `calibrate` takes it from samples of training rows.

    Args:
        autoencoder: One that `can_sample`.
        select: Whether latents are selected by the sample or by the mean, where the posterior is diagonal.
    """

    def __init__(self, autoencoder: SparseAutoencoder, select: Select = "sample") -> None:
        self.autoencoder = autoencoder
        self.select = select
        self.sparsifier = deepcopy(autoencoder.sparsifier)

    @staticmethod
    def can_sample(autoencoder: SparseAutoencoder) -> bool:
        """Whether training samples anything."""
        posterior = isinstance(autoencoder, VariationalAutoencoder) and autoencoder.samples
        return posterior or autoencoder.sparsifier.samples

    @torch.no_grad()
    def calibrate(self, parts: Iterable[Float[Tensor, "_ d_in"]], rows: int) -> None:
        """Take the threshold of samples, from rows of training, some at a time; `rows` in all."""
        if self.sparsifier.learns_threshold:
            self.sparsifier.calibrate((self._values_and_scores(x, 0)[1] for x in parts), rows)

    @torch.no_grad()
    def read(self, x: Float[Tensor, "rows d_in"]) -> MeanOfSamples:
        """The mean over the samples of some rows."""
        x_hat, active = torch.zeros_like(x), []
        for number in range(SAMPLES):
            latents = self._latents(x, number)
            x_hat += self.autoencoder.reconstruct(latents) / SAMPLES
            active.append(latents.active_per_row())
        return MeanOfSamples(x_hat, torch.stack(active))

    def _latents(self, x: Float[Tensor, "rows d_in"], number: int) -> Latents:
        z, score = self._values_and_scores(x, number)
        draw = Draw(AFTER_ALL_WARMUPS, noise=self._noise(x, number)) if self.sparsifier.samples else None
        latents: Latents = self.sparsifier(z, score, draw)
        return latents

    def _values_and_scores(self, x: Float[Tensor, "rows d_in"], number: int) -> tuple[Tensor, Tensor]:
        autoencoder = self.autoencoder
        if not isinstance(autoencoder, VariationalAutoencoder) or not autoencoder.samples:
            z = autoencoder.evaluation_scores(x)
            return z, z
        noise = self._noise(x, number)
        if autoencoder.covariance == "encoder":
            assert not isinstance(autoencoder.sigma, str)
            z = autoencoder.evaluation_scores(x + autoencoder.sigma * noise)
            return z, z
        posterior = autoencoder.posterior(x)
        z = posterior.sample(noise)
        return z, z if self.select == "sample" else posterior.mean

    def _noise(self, x: Float[Tensor, "rows d_in"], number: int) -> Float[Tensor, "rows width"]:
        """Noise that depends on the seed, the sample and the place of a row in its batch."""
        autoencoder = self.autoencoder
        on_the_input = isinstance(autoencoder, VariationalAutoencoder) and autoencoder.covariance == "encoder"
        width = autoencoder.d_in if on_the_input else autoencoder.d_sae
        chance = generator(x.device, "samples", autoencoder.seed, number)
        return torch.randn(len(x), width, generator=chance, device=x.device)

"""What the posterior of a vSAE says of each latent."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.autoencoders.variational import VariationalAutoencoder
from vsae_lightning.evaluation.firing import ActiveSets
from vsae_lightning.evaluation.noise import sampled_latents


@dataclass(frozen=True)
class Posteriors:
    """Per latent, over all rows of an excerpt.

    Attributes:
        sigma: Mean standard deviation.
        kl: Mean KL(q || N(0, 1)) in nats, sum over rows / rows, whatever prior it was trained with; its units are those
            of the latents, which folding the scaling of the input in does not change. None with covariance: encoder:
            that posterior is singular, and the KL of its marginals is part of none.
        changes: The share of its firings, with sampling or without, that are there with one of both alone; NaN where
            there are none. Latents are selected by the sample, also where training selected them by the mean.
    """

    sigma: Float[np.ndarray, " d_sae"]
    kl: Float[np.ndarray, " d_sae"] | None
    changes: Float[np.ndarray, " d_sae"]


class PosteriorTally:
    """Sums over rows, from which `Posteriors` come; the same noise for every size of batches.

    Args:
        autoencoder: One that samples.
        seed: Of the noise.
    """

    def __init__(self, autoencoder: VariationalAutoencoder, seed: int = 0) -> None:
        self.autoencoder = autoencoder
        self.seed = seed
        device = autoencoder.W_dec.device
        d_sae = autoencoder.d_sae
        self._sigma, self._kl = (torch.zeros(d_sae, dtype=torch.float64, device=device) for _ in range(2))
        self._either, self._both = (torch.zeros(d_sae, dtype=torch.long, device=device) for _ in range(2))
        self._rows = 0

    @classmethod
    def of(cls, autoencoder: SparseAutoencoder) -> "PosteriorTally | None":
        """None of what does not sample."""
        if isinstance(autoencoder, VariationalAutoencoder) and autoencoder.samples:
            return cls(autoencoder)
        return None

    def update(self, x: Float[Tensor, "rows d_in"], latents: Latents) -> Float[Tensor, "rows d_sae"] | None:
        """Take in a batch that follows those before it; returns sigma where it is learned, another in every row."""
        posterior = self.autoencoder.posterior(x)
        mean = posterior.mean
        sigma = torch.as_tensor(posterior.sigma, device=mean.device).expand_as(mean)
        self._sigma += sigma.sum(0, dtype=torch.float64)
        kl = 0.5 * (mean.square() + sigma.square() - 1) - sigma.log()
        self._kl += kl.sum(0, dtype=torch.float64)
        sampled = sampled_latents(self.autoencoder, "sample", self.seed, x, self._rows, posterior)
        self._compare(ActiveSets.of(latents), ActiveSets.of(sampled))
        self._rows += len(x)
        return sigma if self.autoencoder.sigma == "learned" else None

    def compute(self) -> Posteriors:
        changed = (self._either - self._both).double() / self._either
        kl = None if self.autoencoder.covariance == "encoder" else (self._kl / self._rows).cpu().numpy()
        return Posteriors((self._sigma / self._rows).cpu().numpy(), kl, changed.cpu().numpy())

    def _compare(self, clean: ActiveSets, sampled: ActiveSets) -> None:
        d_sae = clean.shape[1]
        fired = torch.bincount(clean.latents, minlength=d_sae) + torch.bincount(sampled.latents, minlength=d_sae)
        both = torch.bincount(clean.latents[clean.is_in(sampled)], minlength=d_sae)
        self._both += both
        self._either += fired - both

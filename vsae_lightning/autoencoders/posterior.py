"""The posterior q(z|x) = N(mean, sigma^2), one Gaussian per latent."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vsae_lightning.autoencoders.precision import at_least_float32


class Posterior(NamedTuple):
    """A diagonal Gaussian per row; with a gate, a spike-and-slab: on with that probability, else exactly 0.

    Attributes:
        mean: mu.
        sigma: Standard deviation: of every latent of every row, of every latent, or one for all.
        gate: Probability of each latent to be on; None where the prior has no use for it.
        of_selected: Whether these are, of every row, the latents that were selected, and no others.
    """

    mean: Float[Tensor, "batch d_sae"]
    sigma: Float[Tensor, "batch d_sae"] | Float[Tensor, " d_sae"] | float
    gate: Float[Tensor, "batch d_sae"] | None = None
    of_selected: bool = False

    def at(self, indices: Int[Tensor, "batch k"]) -> "Posterior":
        """The posterior of some latents of each row: of those selected, where it is of these alone."""
        if self.of_selected:
            assert self.mean.shape == indices.shape
            return self
        sigma = self.sigma
        if isinstance(sigma, Tensor):
            sigma = sigma[indices] if sigma.dim() == 1 else sigma.gather(-1, indices)
        gate = None if self.gate is None else self.gate.gather(-1, indices)
        return Posterior(self.mean.gather(-1, indices), sigma, gate, of_selected=True)

    def sample(self, noise: Float[Tensor, "batch d_sae"]) -> Float[Tensor, "batch d_sae"]:
        """The reparameterised draw z = mean + sigma * noise, noise ~ N(0, I)."""
        mean = at_least_float32(self.mean)
        if isinstance(self.sigma, Tensor):
            return torch.addcmul(mean, self.sigma.to(mean.dtype), noise.to(mean.dtype))
        return torch.add(mean, noise, alpha=self.sigma)

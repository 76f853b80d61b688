"""The posterior q(z|x) = N(mean, sigma^2), one Gaussian per latent."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from vsae_lightning.autoencoders.precision import at_least_float32


class Posterior(NamedTuple):
    """A diagonal Gaussian per row."""

    mean: Float[Tensor, "batch d_sae"]
    sigma: Float[Tensor, "batch d_sae"] | float

    def at(self, indices: Int[Tensor, "batch k"]) -> "Posterior":
        """The posterior of some latents of each row."""
        sigma = self.sigma.gather(-1, indices) if isinstance(self.sigma, Tensor) else self.sigma
        return Posterior(self.mean.gather(-1, indices), sigma)

    def sample(self, noise: Float[Tensor, "batch d_sae"]) -> Float[Tensor, "batch d_sae"]:
        """The reparameterised draw z = mean + sigma * noise, noise ~ N(0, I)."""
        return at_least_float32(self.mean) + self.sigma * noise

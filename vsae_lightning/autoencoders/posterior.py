"""The posterior q(z|x) = N(mean, sigma^2), one Gaussian per latent."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from vsae_lightning.autoencoders.precision import at_least_float32


class Posterior(NamedTuple):
    """A diagonal Gaussian per row; with a gate, a spike-and-slab: on with that probability, else exactly 0.

    Attributes:
        mean: mu.
        sigma: Standard deviation: of every latent of every row, of every latent, or one for all.
        gate: Probability of each latent to be on; None where the prior has no use for it.
    """

    mean: Float[Tensor, "batch d_sae"]
    sigma: Float[Tensor, "batch d_sae"] | Float[Tensor, " d_sae"] | float
    gate: Float[Tensor, "batch d_sae"] | None = None

    def at(self, indices: Int[Tensor, "batch k"]) -> "Posterior":
        """The posterior of some latents of each row."""
        sigma = self.sigma
        if isinstance(sigma, Tensor):
            sigma = sigma[indices] if sigma.dim() == 1 else sigma.gather(-1, indices)
        gate = None if self.gate is None else self.gate.gather(-1, indices)
        return Posterior(self.mean.gather(-1, indices), sigma, gate)

    def sample(self, noise: Float[Tensor, "batch d_sae"]) -> Float[Tensor, "batch d_sae"]:
        """The reparameterised draw z = mean + sigma * noise, noise ~ N(0, I)."""
        return at_least_float32(self.mean) + self.sigma * noise

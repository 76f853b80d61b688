"""Priors over the latents of a variational autoencoder: KL(q(z|x) || p(z)) per latent, in nats."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from vsae_lightning.autoencoders.parts import Part
from vsae_lightning.autoencoders.posterior import Posterior
from vsae_lightning.autoencoders.precision import at_least_float32
from vsae_lightning.errors import InputError


class Prior(Part, ABC):
    """A distribution the posterior is pulled towards."""

    @abstractmethod
    def kl(self, posterior: Posterior) -> Float[Tensor, "batch d_sae"]:
        """KL(q || p) of every latent of every row, in nats."""


class StandardNormal(Prior):
    """p = N(0, I): KL = (mu^2 + sigma^2 - 1 - log sigma^2) / 2 per latent (Kingma & Welling 2014, appendix B).

    With sigma = 0 (no sampling) the KL is infinite; its part that depends on mu, mu^2 / 2, is what the
    published runs of Baker & Li 2025 minimise, and what is returned.

    Args:
        mean_limit: mu is clamped to [-mean_limit, mean_limit] before it is squared (10 in the published
            runs), so that no gradient pulls on a latent beyond it. None: no clamp.
    """

    def __init__(self, mean_limit: float | None = None) -> None:
        super().__init__()
        if mean_limit is not None and mean_limit <= 0:
            raise InputError(f"StandardNormal: mean_limit is {mean_limit}; it must be positive, or null for none.")
        self.mean_limit = mean_limit

    def kl(self, posterior: Posterior) -> Float[Tensor, "batch d_sae"]:
        mean = at_least_float32(posterior.mean)
        if self.mean_limit is not None:
            mean = mean.clamp(-self.mean_limit, self.mean_limit)
        if isinstance(posterior.sigma, Tensor):
            log_var = 2 * posterior.sigma.log()
            return 0.5 * (mean.square() + log_var.exp() - 1 - log_var)
        if posterior.sigma == 0:
            return 0.5 * mean.square()
        var = mean.new_tensor(posterior.sigma**2)
        return 0.5 * (mean.square() + var - 1 - var.log())

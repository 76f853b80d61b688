"""Priors over the latents of a variational autoencoder: KL(q(z|x) || p(z)) per latent, in nats."""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.autoencoders.parts import Part
from vsae_lightning.autoencoders.posterior import Posterior
from vsae_lightning.autoencoders.precision import at_least_float32
from vsae_lightning.autoencoders.running import RunningMean
from vsae_lightning.autoencoders.sparsifiers import RankMean
from vsae_lightning.errors import InputError


class Prior(Part, ABC):
    """A distribution the posterior is pulled towards.

    With sigma = 0 (no sampling) every KL here is infinite; what is returned then is its part that depends on
    mu: the KL's difference to that at mu = 0.

    Attributes:
        separable: Whether the KL of a latent is a function of that latent alone.
        needs_gate: Whether the posterior must tell with what probability a latent is on.
    """

    separable: bool = True
    needs_gate: bool = False

    @abstractmethod
    def kl(self, posterior: Posterior) -> Float[Tensor, "batch d_sae"]:
        """KL(q || p) of every latent of every row, in nats; their sum over a row is that row's KL."""

    @property
    def variance(self) -> Float[Tensor, ""] | None:
        """Of a Gaussian prior, without gradient; None of any other."""
        return None

    def check(self, d_sae: int) -> None:
        """Raise `InputError` if this prior cannot serve a dictionary of `d_sae` latents."""

    def observe(self, posterior: Posterior, latents: Latents, rank_mean: RankMean) -> None:
        """Take in the posterior of a training batch."""


class CentredNormal(Prior):
    """p = N(0, s^2 I), whose KL is linear in mu^2: its mean over rows needs no more than the mean of mu^2."""

    @property
    def clamps(self) -> bool:
        """Whether mu is changed before it is squared, so that its own squares are not enough."""
        return False

    @abstractmethod
    def kl_of_squares(
        self, squares: Float[Tensor, "*latents"], sigma: Float[Tensor, "*latents"] | Float[Tensor, " d_sae"] | float
    ) -> Float[Tensor, "*latents"]:
        """The KL by mu^2, or its mean over rows by the mean of mu^2, in nats."""

    def kl(self, posterior: Posterior) -> Float[Tensor, "batch d_sae"]:
        return self.kl_of_squares(at_least_float32(posterior.mean).square(), posterior.sigma)


class StandardNormal(CentredNormal):
    """p = N(0, I): KL = (mu^2 + sigma^2 - 1 - log sigma^2) / 2 per latent (Kingma & Welling 2014, appendix B).

    With sigma = 0 it is mu^2 / 2, which is what the published runs of Baker & Li 2025 minimise.

    Args:
        mean_limit: mu is clamped to [-mean_limit, mean_limit] before it is squared (10 in the published
            runs), so that no gradient pulls on a latent beyond it. None: no clamp.

    Raises:
        InputError: mean_limit is not positive.
    """

    def __init__(self, mean_limit: float | None = None) -> None:
        super().__init__()
        if mean_limit is not None and not mean_limit > 0:
            raise InputError(f"StandardNormal: mean_limit is {mean_limit}; it must be positive, or null for none.")
        self.mean_limit = mean_limit

    @property
    def variance(self) -> Float[Tensor, ""]:
        return torch.ones(())

    def kl(self, posterior: Posterior) -> Float[Tensor, "batch d_sae"]:
        if self.mean_limit is None:
            return super().kl(posterior)
        mean = at_least_float32(posterior.mean).clamp(-self.mean_limit, self.mean_limit)
        return super().kl(posterior._replace(mean=mean))

    @property
    def clamps(self) -> bool:
        return self.mean_limit is not None

    def kl_of_squares(
        self, squares: Float[Tensor, "*latents"], sigma: Float[Tensor, "*latents"] | Float[Tensor, " d_sae"] | float
    ) -> Float[Tensor, "*latents"]:
        return 0.5 * squares + _spread_kl(sigma, squares)


class ScaledNormal(CentredNormal):
    """p = N(0, s^2 I): KL = log(s / sigma) + (mu^2 + sigma^2) / (2 s^2) - 1/2 per latent.

    Args:
        scale: s: a number; "running": the running root mean square of mu over active latents; "learned": a
            parameter, started at 1, that minimises the KL along with everything else.

    Raises:
        InputError: scale is not positive.
    """

    def __init__(self, scale: float | Literal["running", "learned"] = "running") -> None:
        super().__init__()
        if not isinstance(scale, str) and not scale > 0:
            raise InputError(f"ScaledNormal: scale is {scale}; it must be positive, 'running' or 'learned'.")
        self.scale = scale
        if scale == "learned":
            self.log_scale = nn.Parameter(torch.zeros(()))
        else:
            self.mean_square = RunningMean(1.0 if isinstance(scale, str) else float(scale) ** 2)

    @property
    def variance(self) -> Float[Tensor, ""]:
        return self._variance().detach()

    def kl_of_squares(
        self, squares: Float[Tensor, "*latents"], sigma: Float[Tensor, "*latents"] | Float[Tensor, " d_sae"] | float
    ) -> Float[Tensor, "*latents"]:
        variance = self._variance()
        if not isinstance(sigma, Tensor) and sigma == 0:
            return 0.5 * squares / variance
        sigma_squared = torch.as_tensor(sigma, dtype=squares.dtype, device=squares.device).square()
        return 0.5 * ((squares + sigma_squared) / variance - 1 - (sigma_squared / variance).log())

    @torch.no_grad()
    def observe(self, posterior: Posterior, latents: Latents, rank_mean: RankMean) -> None:
        if self.scale != "running":
            return
        total = rank_mean(latents.sum_active(lambda active: active.mean.float().square(), posterior).sum())
        active = rank_mean(latents.active_per_row().float().sum())
        self.mean_square.update(torch.where(active > 0, total / active.clamp_min(1), self.mean_square.value))

    def _variance(self) -> Float[Tensor, ""]:
        # A copy: the buffer moves on before the gradient of this pass is taken.
        return (2 * self.log_scale).exp() if self.scale == "learned" else self.mean_square.value.clone()


class Laplace(Prior):
    """p(z) = exp(-|z| / b) / (2 b), the prior of sparse coding; the posterior stays Gaussian.

    KL = log 2b - log(2 pi e sigma^2) / 2 + E|z| / b per latent, with
    E|z| = sigma sqrt(2 / pi) exp(-mu^2 / (2 sigma^2)) + mu erf(mu / (sigma sqrt 2)), the mean of a folded normal.
    With sigma = 0 it is |mu| / b.

    Args:
        scale: b.

    Raises:
        InputError: scale is not positive.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        if not scale > 0:
            raise InputError(f"Laplace: scale is {scale}; it must be positive.")
        self.scale = scale

    def kl(self, posterior: Posterior) -> Float[Tensor, "batch d_sae"]:
        mean = at_least_float32(posterior.mean)
        if not isinstance(posterior.sigma, Tensor) and posterior.sigma == 0:
            return mean.abs() / self.scale
        sigma = torch.as_tensor(posterior.sigma, dtype=mean.dtype, device=mean.device)
        ratio = mean / (sigma * math.sqrt(2))
        folded = sigma * math.sqrt(2 / math.pi) * (-ratio.square()).exp() + mean * ratio.erf()
        return math.log(2 * self.scale) - 0.5 * math.log(2 * math.pi * math.e) - sigma.log() + folded / self.scale


class SpikeAndSlab(Prior):
    """p(z) = alpha N(0, 1) + (1 - alpha) delta_0: a latent is mostly off (Tonolini et al. 2019, arXiv 1902.03930).

    With the posterior gamma N(mu, sigma^2) + (1 - gamma) delta_0, per latent,
    KL = gamma (mu^2 + sigma^2 - 1 - log sigma^2) / 2 + gamma log(gamma / alpha)
    + (1 - gamma) log((1 - gamma) / (1 - alpha)).
    gamma is the probability Phi((mu - tau) / sigma) that the sample exceeds the sparsifier's threshold tau; the slab
    is taken as the whole Gaussian, as Tonolini et al. take it, not as its part above tau.

    Args:
        alpha: Share of the time that a latent is on.

    Raises:
        InputError: alpha is not between 0 and 1.
    """

    needs_gate = True

    def __init__(self, alpha: float = 0.01) -> None:
        super().__init__()
        if not 0 < alpha < 1:
            raise InputError(f"SpikeAndSlab: alpha is {alpha}; it must be between 0 and 1.")
        self.alpha = alpha

    def kl(self, posterior: Posterior) -> Float[Tensor, "batch d_sae"]:
        assert posterior.gate is not None
        mean, gate = at_least_float32(posterior.mean), at_least_float32(posterior.gate)
        slab = 0.5 * mean.square() + _spread_kl(posterior.sigma, mean)
        return gate * slab + bernoulli_kl(gate, self.alpha)


class CorrelatedNormal(Prior):
    """p = N(0, Sigma), Sigma = (1 - rho) I + rho 1 1^T: all latents, or those of a block, are correlated alike.

    KL = (tr(Sigma^-1 S) + mu^T Sigma^-1 mu - m + log|Sigma| - log|S|) / 2 with S = diag(sigma^2). A block of n has
    Sigma^-1 = (I - c 1 1^T) / (1 - rho), c = rho / (1 + (n - 1) rho), and
    log|Sigma| = (n - 1) log(1 - rho) + log(1 + (n - 1) rho); so no matrix is built. What is returned per
    latent adds up to the KL: latent j has mu_j (Sigma^-1 mu)_j of the quadratic form.

    Args:
        correlation: rho.
        block_size: Latents per block, neighbours in the dictionary; the blocks are independent. None: one block.

    Raises:
        InputError: correlation is not in [0, 1), or the block size does not divide d_sae.
    """

    separable = False

    def __init__(self, correlation: float, block_size: int | None = None) -> None:
        super().__init__()
        if not 0 <= correlation < 1:
            raise InputError(f"CorrelatedNormal: correlation is {correlation}; it must be at least 0 and below 1.")
        if block_size is not None and block_size < 1:
            raise InputError(f"CorrelatedNormal: block_size is {block_size}; it must be at least 1.")
        self.correlation = correlation
        self.block_size = block_size

    def check(self, d_sae: int) -> None:
        if self.block_size is not None and d_sae % self.block_size:
            raise InputError(f"CorrelatedNormal: block_size is {self.block_size}; it must divide d_sae, {d_sae}.")

    def kl(self, posterior: Posterior) -> Float[Tensor, "batch d_sae"]:
        mean = at_least_float32(posterior.mean)
        rho, n = self.correlation, self.block_size or mean.shape[-1]
        c = rho / (1 + (n - 1) * rho)
        blocks = mean.unflatten(-1, (-1, n))
        projected = (blocks - c * blocks.sum(-1, keepdim=True)).flatten(-2) / (1 - rho)
        quadratic = 0.5 * mean * projected
        if not isinstance(posterior.sigma, Tensor) and posterior.sigma == 0:
            return quadratic
        sigma_squared = torch.as_tensor(posterior.sigma, dtype=mean.dtype, device=mean.device).square()
        log_det = ((n - 1) * math.log1p(-rho) + math.log1p((n - 1) * rho)) / n
        return quadratic + 0.5 * (sigma_squared * (1 - c) / (1 - rho) - 1 + log_det - sigma_squared.log())


def bernoulli_kl(p: Float[Tensor, "*shape"], target: float) -> Float[Tensor, "*shape"]:
    """KL(Bern(p) || Bern(target)) = p log(p / target) + (1 - p) log((1 - p) / (1 - target)), in nats."""
    # Where p has underflowed to 0 or rounded to 1 the logarithm's gradient would be infinite.
    p = p.clamp(torch.finfo(p.dtype).tiny, 1 - torch.finfo(p.dtype).eps)
    return p * (p.log() - math.log(target)) + (1 - p) * ((-p).log1p() - math.log1p(-target))


def _spread_kl(sigma: Tensor | float, like: Tensor) -> Tensor:
    """(sigma^2 - 1 - log sigma^2) / 2; 0 without sampling."""
    if not isinstance(sigma, Tensor) and sigma == 0:
        return like.new_zeros(())
    log_var = 2 * torch.as_tensor(sigma, dtype=like.dtype, device=like.device).log()
    return 0.5 * (log_var.exp() - 1 - log_var)

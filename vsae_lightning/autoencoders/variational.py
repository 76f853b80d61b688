"""The variational autoencoder: a Gaussian posterior, a sample, then the same sparsify and decode."""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.autoencoders.posterior import Posterior
from vsae_lightning.autoencoders.precision import at_least_float32
from vsae_lightning.autoencoders.sharding import local
from vsae_lightning.autoencoders.sparsifiers import Sparsifier
from vsae_lightning.errors import InputError

Sigma = float | Literal["learned", "closed_form"]
Covariance = Literal["diagonal", "encoder"]

LOG_VAR_RANGE = (-6.0, 2.0)
LOG_VAR_START = -2.0


class VariationalAutoencoder(SparseAutoencoder):
    """q(z|x) = N(mu(x), S); latents = sparsifier(z); x_hat = W_dec^T latents + b_dec.

    mu = pre_acts, or ReLU(pre_acts) with `relu_mean`. In training z is sampled; `encode`, `latents` and
    `forward` use z = mu, the posterior mean.

    S is diagonal, with sigma_j^2 in it, or that of the encoder, sigma^2 W_enc^T W_enc: the sample is then
    z = W_enc^T (x + sigma epsilon - b_dec) + b_enc with epsilon ~ N(0, I_{d_in}), whose marginal standard deviation
    is sigma ||W_enc[:, j]||. That is a denoising autoencoder: noise on its input.

    Diagonal sigma:
    a number, the same for all;
    learned (Baker & Li 2025, arXiv 2509.22994; `var_flag=1` in their code): log sigma^2 = W_var^T x + b_var
    (x - b_dec with `pre_bias`), clamped to [-6, 2]; b_var starts at -2 as theirs does, W_var at 0 (theirs is
    kaiming_uniform, which moves log sigma^2 by some 0.06 on inputs of norm 1);
    closed form: sigma_j^2 = 1 / (||W_dec[j]||^2 / gamma + 1 / s^2), gamma the noise per dimension and s^2 the variance
    of a Gaussian prior. It minimises E||x - W_dec^T z||^2 / (2 gamma) + KL(q || p) in sigma when z is not sparsified
    any further. It is kept in a buffer, set by `set_closed_form`.

    Args:
        d_in: Width of the activations.
        d_sae: Number of latents.
        sparsifier: Sample (or posterior mean) to latents.
        sigma: A number (0: no sampling), "learned" per input and latent, or "closed_form".
        covariance: "diagonal", or that of the "encoder".
        relu_mean: mu = ReLU(pre_acts) instead of pre_acts.
        pre_bias: Subtract b_dec from x before encoding.
        encoder: "free", or "aligned" with the decoder.
        decoder: "unit": decoder rows are kept at norm 1 in training. "free": they are not.
        decoder_norm: Norm of the decoder rows at the start; must be 1 for a unit decoder.
        seed: Of the initial weights.

    Raises:
        InputError: sigma is negative, a covariance of the encoder without a number for sigma or with `relu_mean`,
            a sparsifier that samples too, or as for `SparseAutoencoder`.
    """

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        sparsifier: Sparsifier,
        sigma: Sigma = "learned",
        covariance: Covariance = "diagonal",
        relu_mean: bool = False,
        pre_bias: bool = True,
        encoder: Literal["free", "aligned"] = "free",
        decoder: Literal["unit", "free"] = "unit",
        decoder_norm: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(d_in, d_sae, sparsifier, pre_bias, encoder, decoder, decoder_norm, seed)
        if sigma not in ("learned", "closed_form") and (isinstance(sigma, str) or not 0 <= sigma < math.inf):
            raise InputError(f"sigma is {sigma}; it must be 0 (no sampling), positive, 'learned' or 'closed_form'.")
        if covariance == "encoder" and (isinstance(sigma, str) or sigma == 0):
            raise InputError(f"sigma is {sigma!r}; with covariance: encoder it must be a positive number.")
        if covariance == "encoder" and relu_mean:
            raise InputError(
                "relu_mean is true; with covariance: encoder the posterior is that of the pre-activations."
            )
        if sparsifier.samples and sigma != 0:
            raise InputError(
                f"sigma is {sigma!r}; with a sparsifier that samples its gates (ProbabilisticTopK) it must be 0: "
                "two noises on one decision could not be told apart."
            )
        self.sigma = sigma
        self.covariance = covariance
        self.relu_mean = relu_mean
        if sigma == "learned":
            self.W_var = nn.Parameter(torch.zeros(d_in, d_sae))
            self.b_var = nn.Parameter(torch.full((d_sae,), LOG_VAR_START))
        if sigma == "closed_form":
            self.register_buffer("closed_form_sigma", torch.empty(d_sae))
            self.set_closed_form(torch.ones(()), torch.ones(()))

    @property
    def samples(self) -> bool:
        """Whether training draws from the posterior."""
        return self.sigma != 0

    def posterior(self, x: Float[Tensor, "batch d_in"]) -> Posterior:
        """Mean and marginal standard deviation of every latent of every row."""
        mean = self._mean(x)
        if self.covariance == "encoder":
            assert not isinstance(self.sigma, str)
            return Posterior(mean, self.sigma * self.encoder_weights().norm(dim=0))
        if self.sigma == "closed_form":
            return Posterior(mean, self.shards.slice(self.get_buffer("closed_form_sigma")))
        if not isinstance(self.sigma, str):
            return Posterior(mean, float(self.sigma))
        log_var = torch.addmm(local(self.b_var), self.encoder_input(x), local(self.W_var))
        return Posterior(mean, (0.5 * at_least_float32(log_var).clamp(*LOG_VAR_RANGE)).exp())

    @torch.no_grad()
    def set_closed_form(self, residual_variance: Float[Tensor, ""], prior_variance: Float[Tensor, ""]) -> None:
        """The best sigma for a noise of `residual_variance` (gamma) per dimension, in scaled units."""
        precision = local(self.W_dec).square().sum(-1) / residual_variance + 1 / prior_variance
        self.get_buffer("closed_form_sigma").copy_(self.shards.gather(precision.rsqrt()))

    def latents(self, x: Float[Tensor, "batch d_in"]) -> Latents:
        mean = self._mean(x)
        return self.sparsifier(mean, mean)

    @torch.no_grad()
    def fold_input_scaling(self, mean: Float[Tensor, " d_in"], scale: Float[Tensor, ""]) -> None:
        super().fold_input_scaling(mean, scale)
        if self.covariance == "encoder":  # sigma is a length in input space
            assert not isinstance(self.sigma, str)
            self.sigma = self.sigma / float(scale)

    @torch.no_grad()
    def restart_(self, dead: Bool[Tensor, " d_sae"], directions: Float[Tensor, "dead d_in"], norm: Tensor) -> None:
        super().restart_(dead, directions, norm)
        if self.sigma == "learned":
            self.W_var[:, dead] = 0
            self.b_var[dead] = LOG_VAR_START

    def _mean(self, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_sae"]:
        mean = self.pre_acts(x)
        return nn.functional.relu(mean) if self.relu_mean else mean

    def _encoder_weights(self) -> list[nn.Parameter]:
        return [self.W_enc, self.W_var] if self.sigma == "learned" else [self.W_enc]

    def _encoder_biases(self) -> list[nn.Parameter]:
        return [self.b_enc, self.b_var] if self.sigma == "learned" else [self.b_enc]

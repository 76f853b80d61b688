"""The variational autoencoder: a Gaussian posterior, a sample, then the same sparsify and decode."""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vsae_lightning.autoencoders import kernels
from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.choice import Choice
from vsae_lightning.autoencoders.draw import Draw
from vsae_lightning.autoencoders.encoded import Encoded
from vsae_lightning.autoencoders.posterior import Posterior
from vsae_lightning.autoencoders.precision import at_least_float32
from vsae_lightning.autoencoders.sharding import local
from vsae_lightning.autoencoders.sparsifiers import Sparsifier
from vsae_lightning.errors import InputError

Sigma = float | Literal["learned", "closed_form"]
Covariance = Literal["diagonal", "encoder"]
Select = Literal["sample", "mean"]

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
            self.W_var = nn.Parameter(torch.zeros(d_sae, d_in).T)
            self.b_var = nn.Parameter(torch.full((d_sae,), LOG_VAR_START))
        if sigma == "closed_form":
            self.register_buffer("closed_form_sigma", torch.empty(d_sae))
            self.set_closed_form(torch.ones(()), torch.ones(()))

    @property
    def samples(self) -> bool:
        """Whether training draws from the posterior."""
        return self.sigma != 0

    def posterior(self, x: Float[Tensor, "batch d_in"], sigma_share: float = 1.0) -> Posterior:
        """Mean and marginal standard deviation of every latent of every row; of a sigma that is a number, a share."""
        mean = self._mean(self.pre_acts(x))
        if self.sigma != "learned":
            return Posterior(mean, self.common_sigma(sigma_share))
        log_var = torch.addmm(local(self.b_var), self.encoder_input(x), local(self.W_var))
        return Posterior(mean, _sigma_of(log_var))

    def common_sigma(self, share: float = 1.0) -> Float[Tensor, " d_sae"] | float:
        """That of every row: a share of a number, in the covariance of the encoder times its norms, or closed form."""
        if self.sigma == "closed_form":
            return self.shards.slice(self.get_buffer("closed_form_sigma"))
        assert not isinstance(self.sigma, str)
        sigma = self.sigma * share
        return sigma * self.encoder_weights().norm(dim=0) if self.covariance == "encoder" else float(sigma)

    def evaluation_scores(self, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_sae"]:
        return self._mean(self.pre_acts(x))

    def mean_squares(self, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, " d_sae"]:
        """The mean over the batch of the square of every latent's pre-activation; x receives no gradient."""
        return kernels.mean_squares(x, self._center(), self.encoder_weights(), local(self.b_enc))

    @torch.no_grad()
    def set_closed_form(self, residual_variance: Float[Tensor, ""], prior_variance: Float[Tensor, ""]) -> None:
        """The best sigma for a noise of `residual_variance` (gamma) per dimension, in scaled units."""
        precision = local(self.W_dec).square().sum(-1) / residual_variance + 1 / prior_variance
        self.get_buffer("closed_form_sigma").copy_(self.shards.gather(precision.rsqrt()))

    def encoded(
        self,
        x: Float[Tensor, "batch d_in"],
        draw: Draw | None = None,
        keep_all: bool = False,
        select: Select = "sample",
        sigma_share: float = 1.0,
    ) -> Encoded:
        """Encode, sample and sparsify a batch.

        Args:
            x: The batch.
            draw: That of a training batch; None, or without noise: z is the mean.
            keep_all: Compute the posterior of all latents, also where the sparsifier needs but the largest.
            select: Whether the sparsifier selects by the sample or by the mean.
            sigma_share: Of a sigma that is a number, the part that is in force.
        """
        noise = draw.noise if draw is not None and self.samples else None
        if noise is not None and self.covariance == "encoder":
            assert not isinstance(self.sigma, str)
            return super().encoded(x + self.sigma * sigma_share * noise, draw, keep_all)
        by_mean = noise is None or select == "mean"
        choice = None if keep_all else self.sparsifier.choice(draw)
        if choice is None:
            posterior = self.posterior(x, sigma_share)
            z = posterior.mean if noise is None else posterior.sample(noise)
            score = posterior.mean if by_mean else z
            return Encoded(x, self.sparsifier(z, score, draw), score, posterior)
        posterior, indices = self._selected(x, choice, None if by_mean else noise, sigma_share)
        z = posterior.mean if noise is None else posterior.sample(noise.gather(-1, indices))
        score = posterior.mean if by_mean else z
        latents = choice.of_largest(z, score, indices, len(local(self.b_enc)))
        return Encoded(x, latents, None, posterior)

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

    def _selected(
        self,
        x: Float[Tensor, "batch d_in"],
        choice: Choice,
        noise: Float[Tensor, "batch d_sae"] | None,
        sigma_share: float,
    ) -> tuple[Posterior, Int[Tensor, "batch offered"]]:
        """The posterior of the latents whose mean, or sample where there is noise, is among the largest; which."""
        W = self.encoder_weights()
        if noise is None:  # a mean that is not negative is its own magnitude
            pre_acts, indices = self.largest_pre_acts(x, W, choice.k, choice.magnitude and not self.relu_mean)
        else:
            indices = self._largest_samples(x, W, choice, noise, sigma_share)
            pre_acts = self._linear_at(x, W, self.b_enc, indices)
        if self.sigma == "learned":
            sigma: Tensor | float = _sigma_of(self._linear_at(x, local(self.W_var), self.b_var, indices))
        else:
            sigma = self.common_sigma(sigma_share)
            sigma = sigma[indices] if isinstance(sigma, Tensor) else sigma
        return Posterior(self._mean(pre_acts), sigma, of_selected=True), indices

    @kernels.uncompiled
    @torch.no_grad()
    def _largest_samples(
        self,
        x: Float[Tensor, "batch d_in"],
        W: Float[Tensor, "d_in d_sae"],
        choice: Choice,
        noise: Float[Tensor, "batch d_sae"],
        sigma_share: float,
    ) -> Int[Tensor, "batch offered"]:
        """Which latents of each row have the largest samples; of these no more than a tile is held at a time."""
        weights: list[tuple[Tensor, Tensor]] = [(W, local(self.b_enc))]
        common: Tensor | float = 0.0
        if self.sigma == "learned":
            weights.append((local(self.W_var), local(self.b_var)))
        else:
            common = self.common_sigma(sigma_share)
        largest = kernels.Largest(len(x), min(choice.k, noise.shape[-1]), choice.magnitude, noise)
        for latents, (pre_acts, *log_var) in kernels.linear_tiles(self._centered(x), weights):
            sigma = common[latents] if isinstance(common, Tensor) else common
            sigma = _sigma_of(log_var[0]) if log_var else sigma
            largest.add(Posterior(self._mean(pre_acts), sigma).sample(noise[:, latents]))
        return largest.indices

    def _linear_at(
        self,
        x: Float[Tensor, "batch d_in"],
        W: Float[Tensor, "d_in d_sae"],
        b: Float[Tensor, " d_sae"],
        indices: Int[Tensor, "batch offered"],
    ) -> Float[Tensor, "batch offered"]:
        """The encoder's product with W at some latents of each row."""
        return kernels.linear_at(self.shards.copy(x), self._center(), W, local(b), indices)

    def _mean(self, pre_acts: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch latents"]:
        return nn.functional.relu(pre_acts) if self.relu_mean else pre_acts

    def _encoder_weights(self) -> list[nn.Parameter]:
        return [self.W_enc, self.W_var] if self.sigma == "learned" else [self.W_enc]

    def _encoder_biases(self) -> list[nn.Parameter]:
        return [self.b_enc, self.b_var] if self.sigma == "learned" else [self.b_enc]


def _sigma_of(log_var: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch latents"]:
    return (0.5 * at_least_float32(log_var).clamp(*LOG_VAR_RANGE)).exp()

"""The variational autoencoder: a Gaussian posterior, a sample, then the same sparsify and decode."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.autoencoders.posterior import Posterior
from vsae_lightning.autoencoders.precision import at_least_float32
from vsae_lightning.autoencoders.sparsifiers import Sparsifier
from vsae_lightning.errors import InputError

LOG_VAR_RANGE = (-6.0, 2.0)
LOG_VAR_START = -2.0


class VariationalAutoencoder(SparseAutoencoder):
    """q(z|x) = N(mu(x), sigma(x)^2); latents = sparsifier(z); x_hat = W_dec^T latents + b_dec.

    mu = pre_acts, or ReLU(pre_acts) with `relu_mean`. In training z is sampled; `encode`, `latents` and
    `forward` use z = mu, the posterior mean.

    Learned variance (Baker & Li 2025, arXiv 2509.22994; `var_flag=1` in their code):
    log sigma^2 = W_var^T x + b_var (x - b_dec with `pre_bias`), clamped to [-6, 2]; W_var starts at 0 and
    b_var at -2.

    Args:
        d_in: Width of the activations.
        d_sae: Number of latents.
        sparsifier: Sample (or posterior mean) to latents.
        sigma: A fixed standard deviation (0: no sampling), or "learned" per input and latent.
        relu_mean: mu = ReLU(pre_acts) instead of pre_acts.
        pre_bias: Subtract b_dec from x before encoding.
        decoder: "unit": decoder rows are kept at norm 1 in training. "free": they are not.
        decoder_norm: Norm of the decoder rows at the start; must be 1 for a unit decoder.
        seed: Of the initial weights.

    Raises:
        InputError: sigma is negative, or as for `SparseAutoencoder`.
    """

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        sparsifier: Sparsifier,
        sigma: float | Literal["learned"] = "learned",
        relu_mean: bool = False,
        pre_bias: bool = True,
        decoder: Literal["unit", "free"] = "unit",
        decoder_norm: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(d_in, d_sae, sparsifier, pre_bias, decoder, decoder_norm, seed)
        if not isinstance(sigma, str) and sigma < 0:
            raise InputError(f"sigma is {sigma}; it must be 0 (no sampling), positive, or 'learned'.")
        self.sigma = sigma
        self.relu_mean = relu_mean
        if sigma == "learned":
            self.W_var = nn.Parameter(torch.zeros(d_in, d_sae))
            self.b_var = nn.Parameter(torch.full((d_sae,), LOG_VAR_START))

    @property
    def samples(self) -> bool:
        """Whether training draws from the posterior."""
        return self.sigma != 0

    def posterior(self, x: Float[Tensor, "batch d_in"]) -> Posterior:
        """Mean and standard deviation of every latent of every row."""
        mean = self.pre_acts(x)
        if self.relu_mean:
            mean = nn.functional.relu(mean)
        if not isinstance(self.sigma, str):
            return Posterior(mean, float(self.sigma))
        log_var = torch.addmm(self.b_var, self.encoder_input(x), self.W_var)
        return Posterior(mean, (0.5 * at_least_float32(log_var).clamp(*LOG_VAR_RANGE)).exp())

    def latents(self, x: Float[Tensor, "batch d_in"]) -> Latents:
        mean = self.pre_acts(x)
        return self.sparsifier(nn.functional.relu(mean) if self.relu_mean else mean)

    def _encoder_weights(self) -> list[Tensor]:
        return [self.W_enc, self.W_var] if self.sigma == "learned" else [self.W_enc]

    def _encoder_biases(self) -> list[Tensor]:
        return [self.b_enc, self.b_var] if self.sigma == "learned" else [self.b_enc]

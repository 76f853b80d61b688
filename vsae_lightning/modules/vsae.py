"""The variational sparse autoencoder: reconstruction + warmed-up KL + AuxK."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from vsae_lightning.autoencoders.priors import Prior, StandardNormal
from vsae_lightning.autoencoders.sparsifiers import Sparsifier
from vsae_lightning.autoencoders.variational import VariationalAutoencoder
from vsae_lightning.modules.base import AutoencoderModule, BiasInit, Decoder, ForwardPass, require_at_least
from vsae_lightning.modules.warmup import linear_warmup
from vsae_lightning.seeding import generator, global_seed


class VSAETerms(NamedTuple):
    """The loss of a vSAE; scalars."""

    total: Float[Tensor, ""]
    reconstruction: Float[Tensor, ""]
    kl: Float[Tensor, ""]
    kl_weight: float
    aux: Float[Tensor, ""]


class VSAE(AutoencoderModule):
    """L = ||x - x_hat||^2 + kl_weight * s(t) * sum_j KL(q(z_j|x) || p(z_j)) + aux_weight * L_aux.

    x_hat decodes the sparsified sample z = mu + sigma * epsilon in training, and the sparsified posterior
    mean otherwise. The KL sums over all latents or over the selected ones, the loss is the mean over the
    batch, s(t) = min(1, t / kl_warmup_steps) (Baker & Li 2025, arXiv 2509.22994).

    Args:
        d_in: Width of the activations; taken from the data on the command line.
        d_sae: Number of latents.
        sparsifier: Sample (or posterior mean) to latents.
        sigma: A fixed standard deviation (0: no sampling), or "learned" per input and latent.
        prior: What the posterior is pulled towards; None: the standard normal.
        kl_weight: Weight of the KL.
        kl_warmup_steps: Optimizer steps over which it rises from 0.
        kl_on: Count the KL of "all" latents, or of the "selected" ones alone.
        relu_mean: mu = ReLU(pre_acts), as in the published runs, instead of pre_acts.
        pre_bias: Subtract b_dec from x before encoding.
        decoder: "unit": rows of norm 1, the gradient along them removed before clipping. "free": neither.
        decoder_norm: Norm of the decoder rows at the start; must be 1 for a unit decoder.
        bias_init: b_dec at the start: the geometric median of the first batch, or zero.
        aux_weight: Weight of AuxK; 0 for none.
        dead_after_tokens: A latent is dead when it fired in none of the last so many tokens.
        seed: Of the initial weights and of the noise; None: that of `seed_everything`.
        optimizer: Parameters to optimizer; None: Adam at 2e-4 * sqrt(2^14 / d_sae).
        scheduler: Optimizer to learning-rate schedule, stepped per optimizer step; None: constant.

    Raises:
        InputError: A value out of range.
    """

    autoencoder: VariationalAutoencoder

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        sparsifier: Sparsifier,
        sigma: float | Literal["learned"] = "learned",
        prior: Prior | None = None,
        kl_weight: float = 1.0,
        kl_warmup_steps: int = 1000,
        kl_on: Literal["all", "selected"] = "selected",
        relu_mean: bool = False,
        pre_bias: bool = True,
        decoder: Decoder = "unit",
        decoder_norm: float = 1.0,
        bias_init: BiasInit = "geometric_median",
        aux_weight: float = 1 / 32,
        dead_after_tokens: int = 1_000_000,
        seed: int | None = None,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        require_at_least(0, kl_weight=kl_weight, kl_warmup_steps=kl_warmup_steps)
        seed = global_seed() if seed is None else seed
        autoencoder = VariationalAutoencoder(
            d_in, d_sae, sparsifier, sigma, relu_mean, pre_bias, decoder, decoder_norm, seed
        )
        super().__init__(autoencoder, bias_init, aux_weight, dead_after_tokens, optimizer, scheduler)
        self.prior = prior or StandardNormal()
        self.kl_weight = kl_weight
        self.kl_warmup_steps = kl_warmup_steps
        self.kl_on = kl_on

    def draw_noise(self, rows: int, step: int, lanes: tuple[int, ...]) -> Float[Tensor, "batch d_sae"] | None:
        """Standard normal noise, a function of (seed, step, lane) alone; equal parts of `rows` for each lane."""
        if not self.autoencoder.samples:
            return None
        noise = torch.empty(rows, self.autoencoder.d_sae, device=self.device)
        for part, lane in zip(noise.view(len(lanes), -1, self.autoencoder.d_sae), lanes, strict=True):
            part.normal_(generator=generator(self.device, "noise", self.autoencoder.seed, step, lane))
        return noise

    def forward_pass(
        self, x: Float[Tensor, "batch d_in"], noise: Float[Tensor, "batch d_sae"] | None = None
    ) -> ForwardPass:
        posterior = self.autoencoder.posterior(x)
        z = posterior.mean if noise is None else posterior.sample(noise)
        latents = self.autoencoder.sparsifier(z)
        return ForwardPass(x, posterior.mean, latents, self.autoencoder.reconstruct(latents), posterior)

    def terms(self, forward: ForwardPass, step: int) -> VSAETerms:
        reconstruction = self.reconstruction_loss(forward)
        kl = self.kl_loss(forward)
        kl_weight = self.kl_weight * linear_warmup(step, self.kl_warmup_steps)
        aux = self.aux_loss(forward)
        total = reconstruction + kl_weight * kl + self.aux_weight * aux
        return VSAETerms(total, reconstruction, kl, kl_weight, aux)

    def kl_loss(self, forward: ForwardPass) -> Float[Tensor, ""]:
        """KL(q || p) in nats, summed over all or the selected latents, mean over the batch."""
        assert forward.posterior is not None
        if self.kl_on == "all":
            return self.prior.kl(forward.posterior).sum(-1).mean()
        return forward.latents.sum_active(self.prior.kl, forward.posterior).mean()

"""The variational sparse autoencoder: what an SAE minimises, on a sample, + warmed-up KL."""

from copy import deepcopy
from typing import Literal

import torch
from jaxtyping import Float
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from vsae_lightning.autoencoders.draw import Draw
from vsae_lightning.autoencoders.posterior import Posterior
from vsae_lightning.autoencoders.priors import CentredNormal, Prior, ScaledNormal, StandardNormal
from vsae_lightning.autoencoders.running import RunningMean
from vsae_lightning.autoencoders.sharding import WHOLE, Shards
from vsae_lightning.autoencoders.sparsifiers import Sparsifier
from vsae_lightning.autoencoders.variational import Covariance, Select, Sigma, VariationalAutoencoder
from vsae_lightning.errors import InputError, require_at_least
from vsae_lightning.modules.base import AutoencoderModule, BiasInit, Decoder, Encoder
from vsae_lightning.modules.forward import ForwardPass
from vsae_lightning.modules.terms import LossTerms
from vsae_lightning.modules.warmup import linear_warmup
from vsae_lightning.readings import Readings
from vsae_lightning.seeding import global_seed


class VSAE(AutoencoderModule):
    """L = (the loss of `SAE`, of a sample) + kl_weight s(t) sum_j KL(q(z_j|x) || p(z_j)).

    x_hat decodes the sparsified sample z in training, and the sparsified posterior mean otherwise. The KL sums
    over all latents or over the selected ones, the loss is the mean over the batch,
    s(t) = min(1, t / kl_warmup_steps) (Baker & Li 2025, arXiv 2509.22994).

    With a diagonal posterior z = mu + sigma epsilon. With that of the encoder z = mu + sigma W_enc^T epsilon:
    noise on the input, a denoising autoencoder. Its KL to a prior on all latents is infinite, the covariance being
    singular; the gate KL takes its place.

    `kl_weight: elbo` weighs the KL by 2 gamma, gamma = E||x - x_hat||^2 / d_in the running mean over training
    batches. With it and `kl_on: all`, L is the negative ELBO (times 2 gamma, less a constant) of a decoder that
    sparsifies z and has Gaussian noise gamma. With `kl_on: selected`, the default, L is not an ELBO: it omits the KL
    of all latents that are not selected, and so is smaller than the negative ELBO. Other terms (AuxK, gate KL, L1)
    come on top.

    Args:
        d_in: Width of the activations; taken from the data on the command line.
        d_sae: Number of latents.
        sparsifier: Sample (or posterior mean) to latents.
        sigma: Standard deviation: a number (0: no sampling), "learned" per input and latent, or "closed_form",
            the best for the present reconstruction, decoder and Gaussian prior.
        sigma_warmup_steps: Optimizer steps over which a sigma that is a number rises from 0.
        covariance: "diagonal", or that of the "encoder".
        select: Whether the sparsifier selects by the "sample" or by the posterior "mean", before sampling.
        prior: What the posterior is pulled towards; None: the standard normal.
        kl_weight: Weight of the KL; "elbo": 2 gamma, the weight in an ELBO (which needs `kl_on: all` too).
        kl_warmup_steps: Optimizer steps over which it rises from 0.
        kl_on: Count the KL of "all" latents, or of the "selected" ones alone, which omits all others.
        free_bits: Nats of every latent's KL that cost nothing (Kingma et al. 2016, arXiv 1606.04934, here per row).
        relu_mean: mu = ReLU(pre_acts), as in the published runs, instead of pre_acts.
        sparsity_weight: Weight of the sparsifier's penalty.
        sparsity_warmup_steps: Optimizer steps over which it rises from 0.
        gate_kl_weight: Weight of the gate KL.
        gate_kl_warmup_steps: Optimizer steps over which it rises from 0.
        pre_bias: Subtract b_dec from x before encoding.
        encoder: "aligned": <W_enc[:, j], W_dec[j]> = 1 for every latent. "free": not.
        decoder: "unit": rows of norm 1, the gradient along them removed before clipping. "free": neither.
        decoder_norm: Norm of the decoder rows at the start; must be 1 for a unit decoder.
        bias_init: b_dec at the start: the geometric median of the first batch, or zero.
        aux_weight: Weight of AuxK; 0 for none.
        dead_after_tokens: A latent is dead when it fired in none of the last so many tokens.
        resample_every_steps: Optimizer steps between two restarts of all dead latents; None: never.
        torch_compile: Compile the forward and backward pass of training; equal to the uncompiled one to rounding.
        seed: Of the initial weights and of the noise; None: that of `seed_everything`.
        optimizer: Parameters to optimizer; None: Adam at 2e-4 * sqrt(2^14 / d_sae).
        scheduler: Optimizer to learning-rate schedule, stepped per optimizer step; None: constant.

    Raises:
        InputError: A value out of range, or options that exclude each other.
    """

    autoencoder: VariationalAutoencoder

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        sparsifier: Sparsifier,
        sigma: Sigma = "learned",
        sigma_warmup_steps: int = 0,
        covariance: Covariance = "diagonal",
        select: Select = "sample",
        prior: Prior | None = None,
        kl_weight: float | Literal["elbo"] = 1.0,
        kl_warmup_steps: int = 1000,
        kl_on: Literal["all", "selected"] = "selected",
        free_bits: float = 0.0,
        relu_mean: bool = False,
        sparsity_weight: float = 0.0,
        sparsity_warmup_steps: int = 0,
        gate_kl_weight: float = 0.0,
        gate_kl_warmup_steps: int = 0,
        pre_bias: bool = True,
        encoder: Encoder = "free",
        decoder: Decoder = "unit",
        decoder_norm: float = 1.0,
        bias_init: BiasInit = "geometric_median",
        aux_weight: float = 1 / 32,
        dead_after_tokens: int = 1_000_000,
        resample_every_steps: int | None = None,
        torch_compile: bool = False,
        seed: int | None = None,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        if kl_weight != "elbo":
            require_at_least(0, kl_weight=float(kl_weight))
        require_at_least(0, kl_warmup_steps=kl_warmup_steps, free_bits=free_bits, sigma_warmup_steps=sigma_warmup_steps)
        seed = global_seed() if seed is None else seed
        super().__init__(
            VariationalAutoencoder(
                d_in, d_sae, sparsifier, sigma, covariance, relu_mean, pre_bias, encoder, decoder, decoder_norm, seed
            ),
            sparsity_weight=sparsity_weight,
            sparsity_warmup_steps=sparsity_warmup_steps,
            gate_kl_weight=gate_kl_weight,
            gate_kl_warmup_steps=gate_kl_warmup_steps,
            bias_init=bias_init,
            aux_weight=aux_weight,
            dead_after_tokens=dead_after_tokens,
            resample_every_steps=resample_every_steps,
            torch_compile=torch_compile,
            optimizer=optimizer,
            scheduler=scheduler,
        )
        self.sigma_warmup_steps = sigma_warmup_steps
        self.select: Select = select
        self.prior = deepcopy(prior) if prior is not None else StandardNormal()  # its state is this module's
        self.kl_weight = kl_weight
        self.kl_warmup_steps = kl_warmup_steps
        self.kl_on = kl_on
        self.free_bits = free_bits
        self.residual_variance = RunningMean(1.0)
        self._refuse_contradictions()
        self._warn_of_what_is_ignored(prior)
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]

    @property
    def noise_width(self) -> int:
        if not self.autoencoder.samples:
            return super().noise_width
        return self.autoencoder.d_in if self.autoencoder.covariance == "encoder" else self.autoencoder.d_sae

    @property
    def noise_shards(self) -> Shards:
        on_the_input = self.autoencoder.samples and self.autoencoder.covariance == "encoder"
        return WHOLE if on_the_input else super().noise_shards

    @property
    def keep_all(self) -> bool:
        kl_on_all = self.kl_weight != 0 and self.kl_on == "all" and not self._kl_is_of_squares
        return super().keep_all or self.prior.needs_gate or kl_on_all

    def forward_pass(self, x: Float[Tensor, "batch d_in"], draw: Draw | None = None) -> ForwardPass:
        share = 1.0 if draw is None else linear_warmup(draw.step, self.sigma_warmup_steps)
        encoded = self.autoencoder.encoded(x, draw, self.keep_all, self.select, share)
        posterior, score = encoded.posterior, encoded.score
        if posterior is not None and score is not None and self.prior.needs_gate:
            threshold = self.autoencoder.sparsifier.gate_threshold(score, encoded.latents, draw)
            gate = torch.special.ndtr((posterior.mean - threshold) / posterior.sigma)
            encoded = encoded._replace(posterior=posterior._replace(gate=gate))
        return self.decoded(x, encoded, draw)

    def readings(self) -> Readings:
        return Readings(self.autoencoder, self.input_mean, self.input_scale, self.select)

    def terms(self, forward: ForwardPass, step: int) -> LossTerms:
        terms = self.common_terms(forward, step)
        if self.kl_weight == 0 or forward.posterior is None:
            return terms
        kl_weight = self._full_kl_weight() * linear_warmup(step, self.kl_warmup_steps)
        return terms.plus("kl", self.kl_loss(forward, forward.posterior), kl_weight)

    def kl_loss(self, forward: ForwardPass, posterior: Posterior) -> Float[Tensor, ""]:
        """KL(q || p) in nats above the free bits, summed over all or the selected latents, mean over the batch."""
        if self.kl_on == "all" and posterior.of_selected:  # x receives no gradient of it
            assert isinstance(self.prior, CentredNormal)
            squares = self.autoencoder.mean_squares(forward.x)
            return self.autoencoder.shards.sum(self.prior.kl_of_squares(squares, self.autoencoder.common_sigma()).sum())
        if self.kl_on == "all":
            return self.autoencoder.shards.sum(self._paid_kl(posterior).sum(-1)).mean()
        return forward.latents.sum_active(self._paid_kl, posterior).mean()

    @torch.no_grad()
    def observe(self, forward: ForwardPass, draw: Draw) -> None:
        super().observe(forward, draw)
        residual = (forward.x.float() - forward.x_hat.float()).square().mean()
        self.residual_variance.update(self._rank_mean(residual))
        if forward.posterior is not None:
            self.prior.observe(forward.posterior, forward.latents, self._rank_mean)
        if self.autoencoder.sigma == "closed_form":
            assert self.prior.variance is not None
            self.autoencoder.set_closed_form(self.residual_variance.value, self.prior.variance)

    @property
    def _kl_is_of_squares(self) -> bool:
        """Whether the KL of all latents can be had without the posterior of each."""
        prior, linear = self.prior, not self.autoencoder.relu_mean and self.free_bits == 0
        return isinstance(prior, CentredNormal) and not prior.clamps and linear and self.autoencoder.sigma != "learned"

    def _paid_kl(self, posterior: Posterior) -> Float[Tensor, "batch latents"]:
        kl = self.prior.kl(posterior)
        return (kl - self.free_bits).clamp_min(0) if self.free_bits else kl

    def _full_kl_weight(self) -> Float[Tensor, ""] | float:
        return 2 * self.residual_variance.value.clone() if self.kl_weight == "elbo" else float(self.kl_weight)

    def _warn_of_what_is_ignored(self, prior: Prior | None) -> None:
        ignored = {
            "kl_weight is 0: the prior has no effect": (
                prior is not None and self.kl_weight == 0 and self.autoencoder.sigma != "closed_form"
            ),
            "kl_weight is 0: free_bits has no effect": self.kl_weight == 0 and self.free_bits > 0,
            "sigma is 0: select: mean has no effect": self.autoencoder.sigma == 0 and self.select == "mean",
        }
        for reason, applies in ignored.items():
            if applies:
                rank_zero_warn(f"VSAE: {reason}.")

    def _refuse_contradictions(self) -> None:
        """Raise `InputError` for combinations that have no meaning, by name and with the reason."""
        autoencoder, prior = self.autoencoder, type(self.prior).__name__
        sparsifier = autoencoder.sparsifier
        self.prior.check(autoencoder.d_sae)
        number = not isinstance(autoencoder.sigma, str)
        refusals = {
            "kl_weight must be 0 with covariance: encoder: the posterior is singular, its KL infinite; "
            "see gate_kl_weight": autoencoder.covariance == "encoder" and self.kl_weight != 0,
            "select must be sample with covariance: encoder: noise on the input moves all latents at once": (
                autoencoder.covariance == "encoder" and self.select == "mean"
            ),
            f"sigma_warmup_steps is for a sigma that is a number, not {autoencoder.sigma!r}": (
                self.sigma_warmup_steps > 0 and not number
            ),
            "sigma_warmup_steps starts at sigma 0, where the KL is infinite: set kl_weight to 0": (
                self.sigma_warmup_steps > 0 and autoencoder.covariance == "diagonal" and self.kl_weight != 0
            ),
            f"sigma must be a number or 'learned' with {prior}: the closed form is that of a Gaussian prior": (
                autoencoder.sigma == "closed_form" and self.prior.variance is None
            ),
            f"scale must not be learned in {prior} with sigma 0 or kl_weight 0: nothing would teach it": (
                isinstance(self.prior, ScaledNormal)
                and self.prior.scale == "learned"
                and (autoencoder.sigma == 0 or self.kl_weight == 0)
            ),
            f"kl_on must be all with {prior}: its KL is not that of the selected latents alone": (
                self.kl_on == "selected" and self.kl_weight != 0 and (self.prior.needs_gate or not self.prior.separable)
            ),
            f"free_bits must be 0 with {prior}: its KL is not a sum over latents": (
                self.free_bits > 0 and not self.prior.separable
            ),
            f"sigma must not be 0 with {prior}: without sampling a latent has no probability to be on": (
                self.prior.needs_gate and autoencoder.sigma == 0
            ),
            f"{prior} needs a sparsifier with a threshold, not {type(sparsifier).__name__}: it asks for the "
            "probability that a latent exceeds it": self.prior.needs_gate and not sparsifier.has_gate,
            f"sparsity_weight is 0: {type(sparsifier).__name__} would learn no sparsity; set it, or kl_on to all": (
                sparsifier.needs_penalty
                and self.sparsity_weight == 0
                and (self.kl_weight == 0 or self.kl_on == "selected")
            ),
        }
        for reason, applies in refusals.items():
            if applies:
                raise InputError(f"VSAE: {reason}.")

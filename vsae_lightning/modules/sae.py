"""The sparse autoencoder: reconstruction + L1 + AuxK."""

from typing import Any, NamedTuple

from jaxtyping import Float
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.sparsifiers import Sparsifier
from vsae_lightning.modules.base import AutoencoderModule, BiasInit, Decoder, ForwardPass, require_at_least
from vsae_lightning.modules.warmup import linear_warmup
from vsae_lightning.seeding import global_seed


class SAETerms(NamedTuple):
    """The loss of an SAE; scalars."""

    total: Float[Tensor, ""]
    reconstruction: Float[Tensor, ""]
    l1: Float[Tensor, ""]
    l1_weight: float
    aux: Float[Tensor, ""]


class SAE(AutoencoderModule):
    """L = ||x - x_hat||^2 + l1_weight * s(t) * sum_j |f_j| ||W_dec[j]|| + aux_weight * L_aux.

    Squared norms sum over d_in, the loss is the mean over the batch; s(t) = min(1, t / l1_warmup_steps).
    With TopK, a unit decoder and no L1 it is the TopK SAE of Gao et al. 2024 (arXiv 2406.04093); with
    ReLU and L1, the SAE of Bricken et al. 2023, its L1 weighted by the decoder's norms (Conerly et al.
    2024), so that a free decoder cannot evade it.

    Args:
        d_in: Width of the activations; taken from the data on the command line.
        d_sae: Number of latents.
        sparsifier: Pre-activations to latents.
        l1_weight: Weight of the L1 penalty.
        l1_warmup_steps: Optimizer steps over which it rises from 0.
        pre_bias: Subtract b_dec from x before encoding.
        decoder: "unit": rows of norm 1, the gradient along them removed before clipping. "free": neither.
        decoder_norm: Norm of the decoder rows at the start; must be 1 for a unit decoder.
        bias_init: b_dec at the start: the geometric median of the first batch, or zero.
        aux_weight: Weight of AuxK; 0 for none.
        dead_after_tokens: A latent is dead when it fired in none of the last so many tokens.
        seed: Of the initial weights; None: that of `seed_everything`.
        optimizer: Parameters to optimizer; None: Adam at 2e-4 * sqrt(2^14 / d_sae).
        scheduler: Optimizer to learning-rate schedule, stepped per optimizer step; None: constant.

    Raises:
        InputError: A value out of range.
    """

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        sparsifier: Sparsifier,
        l1_weight: float = 0.0,
        l1_warmup_steps: int = 0,
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
        require_at_least(0, l1_weight=l1_weight, l1_warmup_steps=l1_warmup_steps)
        seed = global_seed() if seed is None else seed
        autoencoder = SparseAutoencoder(d_in, d_sae, sparsifier, pre_bias, decoder, decoder_norm, seed)
        super().__init__(autoencoder, bias_init, aux_weight, dead_after_tokens, optimizer, scheduler)
        self.l1_weight = l1_weight
        self.l1_warmup_steps = l1_warmup_steps

    def forward_pass(self, x: Float[Tensor, "batch d_in"], noise: Any = None) -> ForwardPass:
        pre_acts = self.autoencoder.pre_acts(x)
        latents = self.autoencoder.sparsifier(pre_acts)
        return ForwardPass(x, pre_acts, latents, self.autoencoder.reconstruct(latents))

    def terms(self, forward: ForwardPass, step: int) -> SAETerms:
        reconstruction = self.reconstruction_loss(forward)
        l1 = self.l1_loss(forward)
        l1 = l1 if self.l1_weight else l1.detach()  # reported all the same
        l1_weight = self.l1_weight * linear_warmup(step, self.l1_warmup_steps)
        aux = self.aux_loss(forward)
        total = reconstruction + l1_weight * l1 + self.aux_weight * aux
        return SAETerms(total, reconstruction, l1, l1_weight, aux)

    def l1_loss(self, forward: ForwardPass) -> Float[Tensor, ""]:
        """sum_j |f_j| ||W_dec[j]||, mean over the batch."""
        return forward.latents.l1(self.autoencoder.W_dec.norm(dim=-1)).mean()

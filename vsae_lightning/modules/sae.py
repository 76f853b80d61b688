"""The sparse autoencoder: reconstruction + the sparsifier's penalty + gate KL + AuxK."""

from jaxtyping import Float
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.draw import Draw
from vsae_lightning.autoencoders.sparsifiers import Sparsifier
from vsae_lightning.errors import InputError
from vsae_lightning.modules.base import AutoencoderModule, BiasInit, Decoder, Encoder
from vsae_lightning.modules.forward import ForwardPass
from vsae_lightning.modules.terms import LossTerms
from vsae_lightning.seeding import global_seed


class SAE(AutoencoderModule):
    """L = ||x - x_hat||^2 + L_side + sparsity_weight s(t) P + gate_kl_weight s(t) G + aux_weight V L_aux.

    Squared norms sum over d_in, the loss is the mean over the batch; each s(t) = min(1, t / warm-up steps);
    V = E||x||^2, so that AuxK weighs the same whatever the scale of the input.

    P is the sparsifier's penalty: the L1 sum_j |f_j| ||W_dec[j]|| (Conerly et al. 2024: a free decoder cannot evade
    it), the L0 of JumpReLU, the L1 of the gate in Gated. L_side are the reconstructions that Matryoshka and Gated
    add. With TopK, a unit decoder and nothing else it is the TopK SAE of Gao et al. 2024 (arXiv 2406.04093); with
    ReLU and the L1, the SAE of Bricken et al. 2023.

    The gate KL is G = sg(||x - x_hat||^2) / k * sum_j KL(Bern(f_j) || Bern(k / d_sae)), f_j the soft usage of latent j
    in the batch: it pulls every latent towards being used as often as every other.

    Args:
        d_in: Width of the activations; taken from the data on the command line.
        d_sae: Number of latents.
        sparsifier: Pre-activations to latents.
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
        seed: Of the initial weights and of the noise, if any; None: that of `seed_everything`.
        optimizer: Parameters to optimizer; None: Adam at 2e-4 * sqrt(2^14 / d_sae).
        scheduler: Optimizer to learning-rate schedule, stepped per optimizer step; None: constant.

    Raises:
        InputError: A value out of range, a sparsifier that needs the penalty without a weight for it, or a gate
            KL for one that has no number of latents to aim at.
    """

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        sparsifier: Sparsifier,
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
        if sparsifier.needs_penalty and sparsity_weight == 0:
            raise InputError(
                f"sparsity_weight is 0, but {type(sparsifier).__name__} learns no sparsity without its penalty; "
                "give it a weight, e.g. 0.1."
            )
        seed = global_seed() if seed is None else seed
        super().__init__(
            SparseAutoencoder(d_in, d_sae, sparsifier, pre_bias, encoder, decoder, decoder_norm, seed),
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

    def forward_pass(self, x: Float[Tensor, "batch d_in"], draw: Draw | None = None) -> ForwardPass:
        return self.decoded(x, self.autoencoder.encoded(x, draw, self.keep_all), draw)

    def terms(self, forward: ForwardPass, step: int) -> LossTerms:
        return self.common_terms(forward, step)

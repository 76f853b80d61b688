"""AuxK: dead latents learn from what the living ones leave over."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vsae_lightning.autoencoders.latents import SparseLatents
from vsae_lightning.autoencoders.precision import at_least_float32


def auxk_loss(
    residual: Float[Tensor, "batch d_in"],
    pre_acts: Float[Tensor, "batch d_sae"],
    dead: Bool[Tensor, " d_sae"],
    W_dec: Float[Tensor, "d_sae d_in"],
    rank_mean: Callable[[Tensor], Tensor] = lambda local: local,
) -> Float[Tensor, ""]:
    """||e - e_hat||^2 / ||e - mean(e)||^2 (Gao et al. 2024, arXiv 2406.04093, appendices A.2 and B.1).

    e is the residual, which receives no gradient; e_hat decodes, without bias, the min(d_in / 2, #dead)
    largest dead ReLU(pre_acts). The gradient reaches the encoder and the decoder of dead latents alone.
    0 when no latent is dead. `rank_mean` averages over ranks, so that the denominator is that of the whole
    batch, as it would be on one.
    """
    d_sae = pre_acts.shape[-1]
    k = min(max(residual.shape[-1] // 2, 1), d_sae)
    # Fewer dead latents than k leave zeros among the k, which add nothing; so k needs no sync with the device.
    candidates = torch.where(dead, pre_acts.relu(), 0.0)
    values, indices = candidates.topk(k, dim=-1, sorted=False)
    e = at_least_float32(residual.detach())
    e_hat = at_least_float32(SparseLatents(values, indices, d_sae).decode(W_dec))
    spread = rank_mean((e - rank_mean(e.mean(0))).square().sum())
    error = (e - e_hat).square().sum() / spread.clamp_min(torch.finfo(e.dtype).tiny)
    return error * (dead.any() & (spread > 0))

"""AuxK: dead latents learn from what the living ones leave over."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vsae_lightning.autoencoders.latents import SparseLatents
from vsae_lightning.autoencoders.precision import at_least_float32
from vsae_lightning.autoencoders.sharding import WHOLE, Shards


def auxk_loss(
    residual: Float[Tensor, "batch d_in"],
    pre_acts: Float[Tensor, "batch d_sae"],
    dead: Bool[Tensor, " d_sae"],
    W_dec: Float[Tensor, "d_sae d_in"],
    rank_mean: Callable[[Tensor], Tensor] = lambda local: local,
    shards: Shards = WHOLE,
) -> Float[Tensor, ""]:
    """||e - e_hat||^2 / ||e - mean(e)||^2 (Gao et al. 2024, arXiv 2406.04093, appendices A.2 and B.1).

    e is the residual, which receives no gradient; e_hat decodes, without bias, the min(d_in / 2, #dead)
    largest dead ReLU(pre_acts). The gradient reaches the encoder and the decoder of dead latents alone.
    0 when no latent is dead. `rank_mean` averages over ranks, so that the denominator is that of the whole
    batch, as it would be on one. Of a sharded dictionary `pre_acts`, `dead` and `W_dec` are this rank's.
    """
    d_sae = pre_acts.shape[-1]
    k = min(max(residual.shape[-1] // 2, 1), d_sae * shards.count)
    # Fewer dead latents than k leave zeros among the k, which add nothing; so k needs no sync with the device.
    candidates = torch.where(dead, pre_acts.relu(), 0.0)
    best = shards.topk(candidates, k)
    e = at_least_float32(residual.detach())
    e_hat = at_least_float32(SparseLatents(best.kept(best.values), best.indices, d_sae, shards).decode(W_dec))
    spread = rank_mean((e - rank_mean(e.mean(0))).square().sum())
    error = (e - e_hat).square().sum() / spread.clamp_min(torch.finfo(e.dtype).tiny)
    return error * ((shards.sum(dead.sum()) > 0) & (spread > 0))

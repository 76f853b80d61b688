"""AuxK: dead latents learn from what the living ones leave over."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.latents import SparseLatents
from vsae_lightning.autoencoders.precision import at_least_float32
from vsae_lightning.autoencoders.sharding import kept, local


def auxk_loss(
    autoencoder: SparseAutoencoder,
    x: Float[Tensor, "batch d_in"],
    residual: Float[Tensor, "batch d_in"],
    dead: Bool[Tensor, " d_sae"],
    rank_mean: Callable[[Tensor], Tensor] = lambda local: local,
) -> Float[Tensor, ""]:
    """||e - e_hat||^2 / ||e - mean(e)||^2 (Gao et al. 2024, arXiv 2406.04093, appendices A.2 and B.1).

    e is the residual, which receives no gradient; e_hat decodes, without bias, the min(d_in / 2, #dead)
    largest dead ReLU(pre_acts) of x. The gradient reaches the encoder and the decoder of dead latents alone.
    0 when no latent is dead. `rank_mean` averages over ranks, so that the denominator is that of the whole
    batch, as it would be on one. `dead` is that of all latents, also where they are sharded.
    """
    shards, dead_here = autoencoder.shards, autoencoder.shards.slice(dead)
    # On a GPU this waits for it, once a step: it is what lets products with the dead alone take the place of all.
    here = dead.view(shards.count, -1).sum(-1).tolist()  # of each rank
    if sum(here) == 0:
        return x.new_zeros(())
    k = min(max(autoencoder.d_in // 2, 1), sum(here))
    e = at_least_float32(residual.detach())
    spread = rank_mean((e - rank_mean(e.mean(0))).square().sum())
    # A rank on which nothing is dead takes part with a living latent, of which nothing counts.
    among = dead_here.nonzero().squeeze(-1) if here[shards.rank] else torch.zeros_like(dead_here[:1], dtype=torch.long)
    pre_acts, indices = autoencoder.largest_pre_acts(x, autoencoder.encoder_weights(), k, among=among)
    latents = pre_acts.relu() * dead_here[indices]
    missing = (0, min(k, max(here)) - latents.shape[-1])  # all ranks offer equally many
    latents, indices = F.pad(latents, missing), F.pad(indices, missing)
    latents = kept(latents, shards.won(latents, indices, k))
    W_dec = local(autoencoder.W_dec)
    e_hat = at_least_float32(SparseLatents(latents, indices, len(W_dec), shards).decode(W_dec))
    error = (e - e_hat).square().sum() / spread.clamp_min(torch.finfo(e.dtype).tiny)
    return error * (spread > 0)

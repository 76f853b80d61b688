"""The gate KL: a pull on how often each latent is used, with or without sampling."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.precision import at_least_float32
from vsae_lightning.autoencoders.priors import bernoulli_kl
from vsae_lightning.autoencoders.sharding import WHOLE, Shards
from vsae_lightning.errors import InputError

LOGISTIC_OF_NORMAL = 1.7  # sigmoid(1.7 v) differs from the normal distribution function by less than 0.01
WIDTH = 0.1  # of the gate, as a part of its threshold


def usage(
    score: Float[Tensor, "batch d_sae"],
    threshold: Tensor,
    rank_mean: Callable[[Tensor], Tensor] = lambda local: local,
) -> Float[Tensor, " d_sae"]:
    """f_j: the mean over the batch (of all ranks) of sigmoid(1.7 (score_j - tau) / (0.1 tau)), tau the threshold.

    The sigmoid is the probability that latent j is on if its score has a standard deviation of a tenth of
    the threshold. The value is that of all ranks, the gradient that of this rank's rows: averaged over ranks,
    as DDP does, it is the gradient of the whole.
    """
    tau = at_least_float32(threshold).clamp_min(torch.finfo(torch.float32).eps)
    local = torch.sigmoid(LOGISTIC_OF_NORMAL / WIDTH * (at_least_float32(score) / tau - 1)).mean(0)
    return local + (rank_mean(local.detach()) - local.detach())


def gate_kl(f: Float[Tensor, " d_sae"], target_l0: int, shards: Shards = WHOLE) -> Float[Tensor, ""]:
    """sum_j KL(Bern(f_j) || Bern(target_l0 / d_sae)) in nats: 0 when all latents are used alike.

    Of a sharded dictionary f is of this rank's latents, the sum of all.
    """
    return shards.sum(bernoulli_kl(f, target_l0 / (len(f) * shards.count)).sum())


def refuse_gate_kl(autoencoder: SparseAutoencoder, weight: float) -> None:
    """Raise `InputError` where the sparsifier has no number of latents for the gate KL to aim at."""
    sparsifier, name = autoencoder.sparsifier, type(autoencoder.sparsifier).__name__
    if weight and (sparsifier.target_l0(None) is None or not sparsifier.has_gate):
        raise InputError(
            f"gate_kl_weight is {weight}, but this {name} does not aim at a number of latents by value: use "
            "TopK (by: value), BatchTopK or ProbabilisticTopK, or set it to 0."
        )
    if weight and sparsifier.target_l0(None) == autoencoder.d_sae:
        raise InputError(f"gate_kl_weight is {weight}, but {name} has k = d_sae: every latent is always on.")

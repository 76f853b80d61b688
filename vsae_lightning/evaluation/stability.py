"""How alike two dictionaries are, such as those of two seeds."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.evaluation.firing import ActiveSets
from vsae_lightning.loading import load
from vsae_lightning.metrics.dictionary import match_latents
from vsae_lightning.metrics.directions import mmcs
from vsae_lightning.runs import place_of
from vsae_lightning.trust import Trust

MATCHED_AT_MOST = 8192  # latents; the matching takes the square of it in memory, and the cube in time
SHARED = 0.7


class Stability(NamedTuple):
    """Signed cosines of the decoder rows of one dictionary with those of another.

    Attributes:
        mmcs: The mean over rows of the largest, the mean of both directions (Sharkey et al. 2022).
        matched_cosine: The mean over the pairs of the one-to-one matching that makes it largest; None where there
            are too many latents for one.
        shared: The share of these pairs with a cosine above 0.7, which Paulo & Belrose 2025 (arXiv 2501.16615) call
            the same feature (they ask the encoder too).
    """

    mmcs: float
    matched_cosine: float | None
    shared: float | None


def stability(a: Float[Tensor, "n d_in"], b: Float[Tensor, "m d_in"]) -> Stability:
    """Of two decoders."""
    similarity = mmcs(a, b)
    if max(len(a), len(b)) > MATCHED_AT_MOST:
        return Stability(similarity, None, None)
    matching = match_latents(a, b)
    cosine = matching.cosine[matching.features, matching.latents]
    return Stability(similarity, float(cosine.mean()), float((cosine > SHARED).double().mean()))


def load_other(named: str, device: torch.device, trust: Trust = ()) -> SparseAutoencoder:
    """A run, a checkpoint, an export of ours or of another library, or `last`; or `RUN:MEMBER` of an ensemble.

    Raises:
        InputError: It is none.
    """
    place, member = place_of(named)
    return load(place, device, member, trust)


@torch.no_grad()
def alive_latents(
    autoencoders: list[SparseAutoencoder], batches: Iterable[Float[Tensor, "_ d_in"]]
) -> list[Bool[Tensor, " _"]]:
    """Which latents of each autoencoder fire in any row."""
    alive = [torch.zeros(one.d_sae, dtype=torch.bool, device=one.W_dec.device) for one in autoencoders]
    for x in batches:
        for fired, autoencoder in zip(alive, autoencoders, strict=True):
            fired[ActiveSets.of(autoencoder.latents(x)).latents] = True
    return alive

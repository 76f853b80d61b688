"""How much of a feature's latents is absorbed by others, word by word."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

FULL_COSINE = 0.025
ABSORBER_COSINE = 0.1
LEAST_SHARE = 0.4
MOST_ABSORBERS = 3
SILENT = 1e-8


@torch.no_grad()
def absorption(
    x: Float[Tensor, "words d_in"],
    latents: Float[Tensor, "words d_sae"],
    W_dec: Float[Tensor, "d_sae d_in"],
    direction: Float[Tensor, " d_in"],
    main: list[int],
) -> tuple[Float[Tensor, " words"], Bool[Tensor, " words"]]:
    """Absorption fraction, and whether absorption is full, of words that a probe finds the feature in.

    With the unit direction d of the probe, latent j contributes p_j = f_j cos(d, W_dec[j]) to the projection
    p = <d, x>; M is the sum of p_j over the main latents, A that of the three largest p_j > 0 of others with a
    cosine of at least 0.1. The fraction is 0 where M >= p or A < 0.4 p; else 1 where M <= 0; else a / (a + M) with
    a = min(A, p - M). Absorption is full where no main latent fires and the latent of the largest p_j has a cosine
    of at least 0.025 and p_j >= 0.4 p, p not negative.
    (SAEBench evals/absorption/feature_absorption_calculator.py; Chanin et al. 2024, arXiv 2409.14507; Karvonen et
    al. 2025, arXiv 2503.09532.)

    Args:
        x: Activations at the words.
        latents: Theirs, as they are with decoder rows of norm 1: in units of x.
        W_dec: Decoder rows, of which the direction alone counts.
        direction: The weights of the probe.
        main: The latents of the feature.
    """
    direction = direction / direction.norm()
    cosines = F.cosine_similarity(direction, W_dec, dim=-1)
    projections = (latents * cosines).double()
    projection = (x @ direction).double()
    others = projections * ((projections > 0) & (cosines >= ABSORBER_COSINE))
    others[:, main] = 0
    absorbers = others.topk(min(MOST_ABSORBERS, others.shape[1])).values.sum(-1)
    own = projections[:, main].sum(-1)
    return _fraction(projection, own, absorbers), _is_full(projection, projections, latents[:, main], cosines)


def _fraction(
    projection: Float[Tensor, " words"], own: Float[Tensor, " words"], absorbers: Float[Tensor, " words"]
) -> Float[Tensor, " words"]:
    absorbed = torch.minimum(absorbers, projection - own)
    fraction = torch.where(own <= 0, 1.0, (absorbed / (absorbed + own)).clamp(0, 1))
    return torch.where((own >= projection) | (absorbers / projection < LEAST_SHARE), 0.0, fraction)


def _is_full(
    projection: Float[Tensor, " words"],
    projections: Float[Tensor, "words d_sae"],
    own: Float[Tensor, "words main"],
    cosines: Float[Tensor, " d_sae"],
) -> Bool[Tensor, " words"]:
    largest, latent = projections.max(-1)
    aligned = (cosines[latent] >= FULL_COSINE) & (largest / projection >= LEAST_SHARE)
    return (own < SILENT).all(-1) & aligned & (projection >= 0)

"""The geometry of the dictionary: initialisation, unit decoder rows, the geometric median."""

import torch
from jaxtyping import Float
from torch import Tensor

from vsae_lightning.errors import InputError


def random_directions(d_sae: int, d_in: int, norm: float, seed: int) -> Float[Tensor, "d_sae d_in"]:
    """Decoder rows of the given norm, uniform on the sphere, a function of the seed alone."""
    try:
        rows = torch.randn(d_sae, d_in, generator=torch.Generator().manual_seed(seed))
    except (RuntimeError, MemoryError, TypeError):  # the last for more than 64 bits can say
        raise InputError(f"d_sae is {d_sae}; so many rows of {d_in} numbers do not fit into memory.") from None
    return norm * torch.nn.functional.normalize(rows, dim=-1)


@torch.no_grad()
def normalize_rows_(W_dec: Float[Tensor, "d_sae d_in"]) -> None:
    """Give every decoder row unit norm, in place."""
    W_dec.div_(W_dec.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(W_dec.dtype).tiny))


@torch.no_grad()
def remove_parallel_gradient_(grad: Float[Tensor, "d_sae d_in"], W_dec: Float[Tensor, "d_sae d_in"]) -> None:
    """Subtract from each row's gradient its part along the (unit) row: g -= (g . w) w, in place.

    What is left moves the row along the sphere, so that clipping and Adam see only the part of the
    gradient that renormalisation keeps (Bricken et al. 2023).
    """
    grad.addcmul_(torch.linalg.vecdot(grad, W_dec)[:, None], W_dec, value=-1)


@torch.no_grad()
def geometric_median(
    points: Float[Tensor, "n d_in"], tolerance: float = 1e-5, iterations: int = 100
) -> Float[Tensor, " d_in"]:
    """The point of least summed distance to `points`, by Weiszfeld's iteration from their mean."""
    median = points.mean(0)
    for _ in range(iterations):
        distances = (points - median).norm(dim=-1).clamp_min(torch.finfo(points.dtype).tiny)
        weights = 1 / distances
        previous, median = median, (weights[:, None] * points).sum(0) / weights.sum()
        if (median - previous).norm() < tolerance:
            break
    return median

"""What a training pass has and an evaluation lacks: its step, its lanes, its noise."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Draw(NamedTuple):
    """One training batch's share of chance and time; None in its place means evaluation.

    Attributes:
        step: The optimizer step, on which warm-ups and annealing depend.
        lanes: Equal parts of the batch, lane after lane, whose rows may be compared with each other.
        noise: Standard normal noise for whoever samples: the posterior, or the gates of a sparsifier.
    """

    step: int = 0
    lanes: int = 1
    noise: Float[Tensor, "batch width"] | None = None

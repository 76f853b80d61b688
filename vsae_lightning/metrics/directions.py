"""Cosines between directions, the rows of one decoder or of two, a block of them at a time."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

BLOCK = 2**24  # cosines that are in memory together


class PairwiseCosines(NamedTuple):
    """|cosines| of all pairs of different rows.

    Attributes:
        mean: Over the pairs.
        largest: Of every row, with another.
        histogram: Of the pairs, in equal bins over [0, 1].
    """

    mean: float
    largest: Float[Tensor, " n"]
    histogram: Int[Tensor, " bins"]


class Dispersion(NamedTuple):
    """How far directions keep from each other: the index of Clark & Evans (1954, Ecology 35), here on a sphere.

    Attributes:
        nearest: The mean over rows of 1 - cosine with the nearest other row; signed, so that opposite rows are far.
        random: The same of as many independent directions, uniform on the sphere.
    """

    nearest: float
    random: float

    @property
    def ratio(self) -> float:
        """Above 1: spread more evenly than by chance; below: in clusters."""
        return self.nearest / self.random


class Ranks(NamedTuple):
    """How many dimensions directions fill; s are the singular values of the matrix of unit rows.

    Attributes:
        effective: exp(-sum_i p_i log p_i) with p_i = s_i / sum_j s_j (Roy & Vetterli 2007, "The effective rank").
        participation: (sum_i s_i^2)^2 / sum_i s_i^4.
    """

    effective: float
    participation: float


def pairwise_cosines(rows: Float[Tensor, "n d_in"], bins: int = 50) -> PairwiseCosines:
    """|cosine| of every row with every other; there are at least two."""
    total = torch.zeros((), dtype=torch.float64, device=rows.device)
    histogram = torch.zeros(bins, dtype=torch.float64, device=rows.device)
    largest = []
    for cosine in _cosines_with_others(rows, own=0.0):
        absolute = cosine.abs_().clamp_max_(1)
        total += absolute.sum(dtype=torch.float64)
        histogram += torch.histc(absolute, bins, 0, 1)
        largest.append(absolute.amax(-1))
    histogram[0] -= len(rows)  # with themselves
    pairs = len(rows) * (len(rows) - 1)
    return PairwiseCosines(float(total / pairs), torch.cat(largest), histogram.long() // 2)


def dispersion(rows: Float[Tensor, "n d_in"], draws: int = 3) -> Dispersion:
    """Against the mean of so many sets of random directions; there are at least two rows."""

    def random_directions(seed: int) -> Tensor:
        return torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed)).to(rows.device)

    chance = [_nearest_distance(random_directions(seed)) for seed in range(draws)]
    return Dispersion(_nearest_distance(rows), sum(chance) / draws)


def ranks(rows: Float[Tensor, "n d_in"]) -> Ranks:
    """Of directions, not of lengths: rows are brought to norm 1. Computed in float64."""
    gram = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64, device=rows.device)
    for part in rows.split(block_rows(rows.shape[1])):
        unit = F.normalize(part.double(), dim=-1)
        gram += unit.T @ unit
    squares = torch.linalg.eigvalsh(gram).clamp_min(0)
    shares = squares.sqrt() / squares.sqrt().sum()
    return Ranks(
        float(torch.special.entr(shares).sum().exp()),
        float(squares.sum().square() / squares.square().sum()),
    )


def nearest_cosines(
    a: Float[Tensor, "n d_in"], b: Float[Tensor, "m d_in"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"]]:
    """The largest cosine of every row of one with a row of the other, of `a` and of `b`.

    Signed: latents are not negative, so a row that points the other way is not the same feature.
    """
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    of_a, of_b = [], torch.full((len(b),), -1.0, dtype=b.dtype, device=b.device)
    for part in a.split(block_rows(len(b))):
        cosine = part @ b.T
        of_a.append(cosine.amax(-1))
        of_b = torch.maximum(of_b, cosine.amax(0))
    return torch.cat(of_a), of_b


def mmcs(a: Float[Tensor, "n d_in"], b: Float[Tensor, "m d_in"]) -> float:
    """Mean maximum cosine similarity of two dictionaries (Sharkey et al. 2022), the mean of both directions."""
    return float(sum(cosines.mean() for cosines in nearest_cosines(a, b)) / 2)


def largest_cosines(rows: Float[Tensor, "n d_in"]) -> Float[Tensor, " n"]:
    """The largest cosine of every row with another; there are at least two."""
    return torch.cat([cosine.amax(-1) for cosine in _cosines_with_others(rows, own=-torch.inf)])


def nearest_rows(
    rows: Float[Tensor, "n d_in"], count: int
) -> tuple[Float[Tensor, "n nearest"], Int[Tensor, "n nearest"]]:
    """The largest cosines of every row with others, in falling order, and which rows these are; all where so few."""
    found = [cosine.topk(min(count, len(rows) - 1)) for cosine in _cosines_with_others(rows, own=-torch.inf)]
    return torch.cat([top.values for top in found]), torch.cat([top.indices for top in found])


def _nearest_distance(rows: Float[Tensor, "n d_in"]) -> float:
    return float((1 - largest_cosines(rows)).mean())


def _cosines_with_others(rows: Float[Tensor, "n d_in"], own: float) -> Iterator[Float[Tensor, "some n"]]:
    """The cosines of some rows at a time with all rows; `own` stands for that of a row with itself."""
    unit = F.normalize(rows, dim=-1)
    for part in torch.arange(len(unit), device=rows.device).split(block_rows(len(unit))):
        cosine = unit[part] @ unit.T
        cosine[torch.arange(len(part), device=rows.device), part] = own
        yield cosine


def block_rows(width: int) -> int:
    return max(1, BLOCK // width)

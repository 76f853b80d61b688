"""Which latents fire together."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

BLOCK = 2**23  # pairs that are in memory together, at most


class Pair(NamedTuple):
    """Two latents that fire together.

    Attributes:
        latents: Their columns in the firing pattern.
        jaccard: Rows in which both fire / rows in which either does.
        together: Rows in which both fire.
        lift: Those / as many as would be if they fired independently.
    """

    latents: tuple[int, int]
    jaccard: float
    together: int
    lift: float


class Coactivation(NamedTuple):
    """The Jaccard index of the rows in which two latents fire.

    Attributes:
        mean: Over all pairs.
        chance: The same mean for latents that fire independently, each as often as it does:
            p_i p_j / (p_i + p_j - p_i p_j), p the share of rows.
        together: The share of pairs that ever fire in the same row.
        largest: Of every latent, with another.
        pairs: Those with the largest, in falling order.
    """

    mean: float
    chance: float
    together: float
    largest: Float[np.ndarray, " latents"]
    pairs: list[Pair]


def coactivation(firing: scipy.sparse.csr_array, pairs: int = 20) -> Coactivation:
    """Of a firing pattern [rows, latents], 1 where a latent fires; every latent fires, and there are at least two.

    Time grows with the sum over rows of the square of how many latents fire, memory with pairs never.
    """
    rows, latents = firing.shape
    counts = np.bincount(firing.indices, minlength=latents)
    largest = np.zeros(latents)
    best: list[tuple[float, int, int]] = []
    total, together = 0.0, 0
    for i, j, both in _joint(firing):
        jaccard = both / (counts[i] + counts[j] - both)
        np.maximum.at(largest, i, jaccard)
        total += float(jaccard.sum())
        together += len(both)
        best = _largest(best, jaccard, i, j, pairs)
    ordered = latents * (latents - 1)
    return Coactivation(
        total / ordered,
        _chance(counts / rows),
        together / ordered,
        largest,
        [_pair(firing, counts, jaccard, i, j) for jaccard, i, j in best],
    )


def nearest_by_jaccard(
    firing: scipy.sparse.csr_array, count: int
) -> tuple[Float[np.ndarray, "latents count"], Int[np.ndarray, "latents count"]]:
    """The largest Jaccard indices of every latent with others, in falling order, and which latents these are.

    Of equal ones the first latent comes first; where fewer fire together with it, 0 and -1 fill up. For `firing` and
    the time, see `coactivation`; here latents need not fire.
    """
    counts = np.bincount(firing.indices, minlength=firing.shape[1])
    jaccards = np.zeros((firing.shape[1], count))
    nearest = np.full((firing.shape[1], count), -1)
    for i, j, both in _joint(firing):
        jaccard = both / (counts[i] + counts[j] - both)
        starts = np.flatnonzero(np.diff(i, prepend=-1)).tolist()
        for low, high in pairwise([*starts, len(i)]):
            best = low + _falling(jaccard[low:high], j[low:high], count)
            jaccards[i[low], : len(best)] = jaccard[best]
            nearest[i[low], : len(best)] = j[best]
    return jaccards, nearest


def _falling(values: Float[np.ndarray, " n"], ties: Int[np.ndarray, " n"], count: int) -> Int[np.ndarray, " largest"]:
    """Where the largest values are, in falling order, those that are equal in the order of `ties`."""
    among = np.arange(len(values))
    if len(values) > count:
        among = among[values >= np.partition(values, -count)[-count]]
    return among[np.lexsort((ties[among], -values[among]))[:count]]


def _joint(firing: scipy.sparse.csr_array) -> Iterator[tuple[Int[np.ndarray, " n"], ...]]:
    """Ordered pairs of different latents that fire together, and in how many rows."""
    by_latent = firing.T.tocsr()
    step = max(1, BLOCK // firing.shape[1])
    for first in range(0, firing.shape[1], step):
        joint = (by_latent[first : first + step] @ firing).tocoo()
        i, j = joint.row + first, joint.col
        different = i != j
        yield i[different], j[different], joint.data[different]


def _largest(best: list[Any], jaccard: np.ndarray, i: np.ndarray, j: np.ndarray, most: int) -> list[Any]:
    """`best` and new ones, of each pair (i, j) one with i < j; the largest first."""
    once = np.flatnonzero(i < j)
    if len(once) > most:
        once = once[np.argpartition(-jaccard[once], most)[:most]]
    new = zip(jaccard[once].tolist(), i[once].tolist(), j[once].tolist(), strict=True)
    return sorted([*best, *new], key=lambda pair: (-pair[0], pair[1:]))[:most]


def _chance(rates: Float[np.ndarray, " latents"]) -> float:
    """The mean over pairs of the Jaccard index of independent latents; of equal rates only one is computed with."""
    distinct, weights = np.unique(rates, return_counts=True)
    everyone = sum(
        weight * float((weights * _independent(rate, distinct)).sum())
        for rate, weight in zip(distinct, weights, strict=True)
    )
    themselves = float((weights * _independent(distinct, distinct)).sum())
    return float(everyone - themselves) / (len(rates) * (len(rates) - 1))


def _independent(p: Any, q: Any) -> Any:
    return p * q / (p + q - p * q)


def _pair(firing: scipy.sparse.csr_array, counts: np.ndarray, jaccard: float, i: int, j: int) -> Pair:
    together = round(jaccard * int(counts[i] + counts[j]) / (1 + jaccard))
    return Pair((i, j), jaccard, together, together * firing.shape[0] / (int(counts[i]) * int(counts[j])))

"""The one-to-one matching of two sets of directions, such as the features of two dictionaries."""

from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from torch import Tensor
from torch.nn import functional as F

from vsae_lightning.metrics.directions import block_rows

FIRST_WIDTH = 64  # of the nearest rows, so many are offered to each at first
GROWTH = 8


class Pairs(NamedTuple):
    """Which row of one goes with which row of the other, and their cosines; no row is in two pairs."""

    a: Int[np.ndarray, " pairs"]
    b: Int[np.ndarray, " pairs"]
    cosine: Float[np.ndarray, " pairs"]


class _Offers(NamedTuple):
    """What each row may have: rows of the other, and to be alone.

    Attributes:
        columns: Rows of the other, the nearest first.
        cosine: With these.
        alone: What it is worth to be alone.
    """

    columns: Int[np.ndarray, "n width"]
    cosine: Float[np.ndarray, "n width"]
    alone: Float[np.ndarray, " n"]


def match_directions(a: Float[Tensor, "n d_in"], b: Float[Tensor, "m d_in"], floor: float) -> Pairs:
    """The pairs with a cosine above `floor` whose sum of (cosine - floor) is the largest: exact, by rising rows of `a`.

    It is what the Hungarian method finds in the matrix of all max(cosine, floor), found in a small part of it. Every
    row is offered the rows nearest to it, and to be alone for the cosine with the farthest of these or the floor, if
    that is more: for no less than any row that it is not offered. The best matching of the offers is thus worth no
    less than the best of all; where nobody is alone for more than the floor, it is worth no more, and is the best of
    all. Else every row is offered eight times as many.

    Args:
        a: Directions of any lengths but 0; at least one.
        b: Others, at least one. Cosines are signed: what points the other way is not alike.
        floor: Above -1. The higher, the fewer offers there are.
    """
    unit_a, unit_b = F.normalize(a.detach(), dim=-1), F.normalize(b.detach(), dim=-1)
    width = FIRST_WIDTH
    while True:
        offers = _offers(unit_a, unit_b, width, floor)
        partner = _best(offers, floor, len(b))
        settled = (partner < len(b)) | (offers.alone <= floor)
        if settled.all():
            break
        width *= GROWTH
    rows = np.flatnonzero(partner < len(b))
    chosen = [torch.from_numpy(places).to(a.device) for places in (rows, partner[rows])]
    cosine = (unit_a[chosen[0]] * unit_b[chosen[1]]).sum(-1, dtype=torch.float64)
    return Pairs(rows, partner[rows], cosine.cpu().numpy())


def _offers(a: Float[Tensor, "n d_in"], b: Float[Tensor, "m d_in"], width: int, floor: float) -> _Offers:
    """Of unit vectors."""
    nearest = [(part @ b.T).topk(min(width, len(b)), dim=-1) for part in a.split(block_rows(len(b)))]
    cosine = torch.cat([values for values, _ in nearest]).double().cpu().numpy()
    columns = torch.cat([places.int() for _, places in nearest]).cpu().numpy()
    alone = np.maximum(cosine[:, -1], floor) if width < len(b) else np.full(len(a), floor)
    return _Offers(columns, cosine, alone)


def _best(offers: _Offers, floor: float, m: int) -> Int[np.ndarray, " n"]:
    """The column of every row in the best matching of the offers above the floor; m + i: row i is alone."""
    above: Bool[np.ndarray, "n width"] = offers.cosine > floor
    rows = np.nonzero(above)[0]
    n = len(offers.alone)
    worth = np.concatenate([offers.cosine[above], offers.alone])
    places = (np.concatenate([rows, np.arange(n)]), np.concatenate([offers.columns[above], m + np.arange(n)]))
    cost = scipy.sparse.csr_array((2 - worth, places), shape=(n, m + n))  # above 0: what is 0 is no offer
    return np.asarray(min_weight_full_bipartite_matching(cost)[1], dtype=int)

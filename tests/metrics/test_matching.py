"""Matchings worked out by hand, and held against the Hungarian method on the matrix of all cosines."""

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from vsae_lightning.metrics import matching as module
from vsae_lightning.metrics.matching import Pairs, match_directions

TWO = torch.eye(3)[:2]


def with_cosines(*rows: tuple[float, float]) -> Tensor:
    """Directions in three dimensions with these cosines with the first two axes."""
    return torch.tensor([[x, y, (1 - x**2 - y**2) ** 0.5] for x, y in rows])


def pairs(found: Pairs) -> list[tuple[int, int]]:
    return list(zip(found.a.tolist(), found.b.tolist(), strict=True))


def dense(a: Tensor, b: Tensor, floor: float) -> list[tuple[int, int]]:
    cosine = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
    rows, columns = linear_sum_assignment(cosine.double().clamp_min(floor).numpy(), maximize=True)
    return [(i, j) for i, j in zip(rows.tolist(), columns.tolist(), strict=True) if cosine[i, j] > floor]


def test_what_is_nearest_gives_way_where_both_gain() -> None:
    # 0.6 + 0.65 is more than 0.7 + 0.1.
    found = match_directions(3 * with_cosines((0.7, 0.6), (0.65, 0.1)), TWO, floor=-0.9)
    assert pairs(found) == [(0, 1), (1, 0)]
    assert found.cosine.tolist() == pytest.approx([0.6, 0.65])


def test_a_pair_below_the_floor_is_none_and_decides_nothing() -> None:
    # 0.35 + 0.65 is more than 0.75 + 0.1, but 0.05 + 0.35 above the floor is less than 0.45 alone.
    rows = with_cosines((0.75, 0.35), (0.65, 0.1))
    assert pairs(match_directions(rows, TWO, floor=-0.9)) == [(0, 1), (1, 0)]
    assert pairs(match_directions(rows, TWO, floor=0.3)) == [(0, 0)]
    assert pairs(match_directions(TWO, rows, floor=0.3)) == [(0, 0)]


def test_opposite_directions_are_no_pair() -> None:
    assert pairs(match_directions(torch.eye(4), -torch.eye(4), floor=0.3)) == []


def test_a_permutation_is_found_through_noise() -> None:
    chance = torch.Generator().manual_seed(0)
    rows, order = torch.randn(300, 40, generator=chance), torch.randperm(300, generator=chance)
    noisy = rows[order] + 0.5 * torch.randn(300, 40, generator=chance)
    assert pairs(match_directions(noisy, rows, floor=0.3)) == list(enumerate(order.tolist()))


@pytest.mark.parametrize("shape", [(60, 60), (40, 90), (90, 40), (1, 5), (5, 1)])
@pytest.mark.parametrize("floor", [-0.9, 0.0, 0.3])
@pytest.mark.parametrize("width", [1, 8, 64])
def test_the_same_as_of_all_cosines(
    shape: tuple[int, int], floor: float, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few are offered at first, and in few dimensions, where everybody wants the same ones."""
    monkeypatch.setattr(module, "FIRST_WIDTH", width)
    monkeypatch.setattr(module, "GROWTH", 2)
    for d_in in (3, 12):
        chance = torch.Generator().manual_seed(d_in)
        a, b = (torch.randn(count, d_in, generator=chance) + 0.5 for count in shape)
        assert pairs(match_directions(a, b, floor)) == dense(a, b, floor)


def test_the_first_offers_are_not_enough_where_many_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five rows whose two nearest are the same two: the certificate fails, and more are offered."""
    monkeypatch.setattr(module, "FIRST_WIDTH", 2)
    chance = torch.Generator().manual_seed(1)
    a = torch.tensor([1.0, 1.0, 0, 0, 0, 0]) + 0.05 * torch.randn(5, 6, generator=chance)
    b = torch.eye(6) + 0.4
    found = match_directions(a, b, floor=0.3)
    assert pairs(found) == dense(a, b, 0.3)
    assert len(found.a) == 5

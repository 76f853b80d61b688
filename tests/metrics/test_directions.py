"""Cosines of few directions, worked out by hand, and of many, by the whole matrix."""

import math

import pytest
import torch
from torch import Tensor

from vsae_lightning.metrics import directions, match_latents
from vsae_lightning.metrics.directions import dispersion, mmcs, nearest_cosines, nearest_rows, pairwise_cosines, ranks

# Cosines 0.28 (first and second), 0.96 (second and third) and 0, whatever the lengths.
THREE = torch.tensor([[3.0, 0.0], [0.28, 0.96], [0.0, 0.5]])


def random_rows(n: int, d_in: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d_in, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------- within one decoder


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, 1)])
def test_pairs_of_three_rows_by_hand(signs: tuple[int, ...]) -> None:
    found = pairwise_cosines(THREE * torch.tensor(signs)[:, None], bins=10)
    assert found.mean == pytest.approx((0.28 + 0.96) / 3)
    assert found.largest.tolist() == pytest.approx([0.28, 0.96, 0.96])
    assert found.histogram.tolist() == [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]


def test_orthonormal_rows_have_no_cosine() -> None:
    found = pairwise_cosines(torch.eye(6))
    assert found.mean == 0
    assert found.largest.tolist() == [0] * 6
    assert found.histogram.tolist() == [15] + [0] * 49


def test_a_row_that_is_there_twice_has_a_cosine_of_1() -> None:
    rows = random_rows(5, 7)
    found = pairwise_cosines(torch.cat([rows, -2 * rows[:1]]))
    assert found.largest[[0, 5]].tolist() == pytest.approx([1, 1])
    assert found.largest[1:5].max() < 0.99
    assert int(found.histogram[-1]) == 1


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, others = random_rows(23, 5), random_rows(9, 5, seed=1)
    whole = (pairwise_cosines(rows), dispersion(rows), ranks(rows), nearest_cosines(rows, others))
    monkeypatch.setattr(directions, "BLOCK", 50)  # two rows of 23
    parts = (pairwise_cosines(rows), dispersion(rows), ranks(rows), nearest_cosines(rows, others))
    unit = rows.double() / rows.double().norm(dim=-1, keepdim=True)
    cosine = (unit @ unit.T).abs()
    above = cosine[torch.triu_indices(23, 23, 1).unbind()]
    for found in (whole, parts):
        assert found[0].mean == pytest.approx(float(above.mean()), abs=1e-6)
        torch.testing.assert_close(found[0].largest.double(), cosine.fill_diagonal_(0).amax(1), atol=1e-6, rtol=0)
        assert found[0].histogram.tolist() == torch.histc(above, 50, 0, 1).tolist()
        assert found[1] == pytest.approx(whole[1], rel=1e-6)
        assert found[2] == pytest.approx(whole[2], rel=1e-9)
        torch.testing.assert_close(found[3], whole[3])


# --------------------------------------------------------------------- dispersion


def test_distances_of_three_rows_by_hand() -> None:
    assert dispersion(THREE).nearest == pytest.approx((0.72 + 0.04 + 0.04) / 3, abs=1e-6)
    # Opposite rows are not near: the first is now at right angles to the third, the second's nearest is the third.
    assert dispersion(THREE * torch.tensor([[-1.0], [1], [1]])).nearest == pytest.approx(
        (1 + 0.04 + 0.04) / 3, abs=1e-6
    )


def test_random_directions_are_as_dispersed_as_random_ones() -> None:
    found = dispersion(random_rows(800, 12, seed=99))
    assert found.ratio == pytest.approx(1, abs=0.03)


def test_orthonormal_directions_are_dispersed_and_clusters_are_not() -> None:
    orthonormal = dispersion(torch.eye(16))
    assert orthonormal.nearest == 1
    assert orthonormal.ratio == 1 / orthonormal.random
    assert orthonormal.ratio > 1.5
    clustered = dispersion(random_rows(4, 16).repeat(10, 1) + 0.1 * random_rows(40, 16, seed=1))
    assert clustered.ratio < 0.2


def test_chance_is_the_mean_of_the_draws() -> None:
    draws = [float(_nearest(random_rows(30, 6, seed))) for seed in range(2)]
    assert dispersion(torch.eye(6).repeat(5, 1), draws=2).random == pytest.approx(sum(draws) / 2, rel=1e-5)


def _nearest(rows: Tensor) -> Tensor:
    unit = rows.double() / rows.double().norm(dim=-1, keepdim=True)
    return 1 - (unit @ unit.T).fill_diagonal_(-1).amax(1).mean()


# -------------------------------------------------------------------------- ranks


def test_ranks_by_hand() -> None:
    # Unit rows e1, e1, e2: singular values sqrt(2) and 1.
    found = ranks(torch.tensor([[4.0, 0, 0], [1, 0, 0], [0, 0.1, 0]]))
    p = math.sqrt(2) / (math.sqrt(2) + 1)
    assert found.effective == pytest.approx(math.exp(-p * math.log(p) - (1 - p) * math.log(1 - p)), rel=1e-6)
    assert found.participation == pytest.approx((2 + 1) ** 2 / (4 + 1))


@pytest.mark.parametrize(("rows", "expected"), [(torch.eye(7), 7), (torch.eye(7)[:3], 3), (torch.ones(4, 7), 1)])
def test_equal_singular_values_count(rows: Tensor, expected: int) -> None:
    found = ranks(rows)
    assert found.effective == pytest.approx(expected, abs=1e-5)
    assert found.participation == pytest.approx(expected)


def test_effective_rank_is_that_of_the_singular_values() -> None:
    rows = random_rows(20, 8) * torch.linspace(0.1, 2, 8)
    values = torch.linalg.svdvals(rows.double() / rows.double().norm(dim=-1, keepdim=True))
    shares = values / values.sum()
    assert ranks(rows).effective == pytest.approx(float((-shares * shares.log()).sum().exp()), rel=1e-9)


# --------------------------------------------------------------- between decoders


def test_nearest_rows_of_two_decoders_by_hand() -> None:
    of_a, of_b = nearest_cosines(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.6, 0.8], [-1.0, 0.0], [0.0, 1.0]]))
    assert of_a.tolist() == pytest.approx([0.6])
    assert of_b.tolist() == pytest.approx([0.6, -1, 0])
    assert mmcs(torch.eye(3)[:1], torch.eye(3)[:2]) == pytest.approx((1 + 1 / 2) / 2)


def test_a_permuted_copy_is_the_same_and_a_flipped_one_is_not() -> None:
    rows = random_rows(12, 20)
    assert mmcs(rows, 3 * rows[torch.randperm(12)]) == pytest.approx(1)
    assert mmcs(torch.eye(5), -torch.eye(5)[[2, 0, 1, 4, 3]]) == 0


def test_it_is_symmetric_and_its_direction_that_of_the_recovery_of_a_dictionary() -> None:
    a, b = random_rows(6, 4), random_rows(11, 4, seed=1)
    assert mmcs(a, b) == pytest.approx(mmcs(b, a))
    torch.testing.assert_close(nearest_cosines(a, b)[0].double(), match_latents(a, b).cosine.amax(1))


def test_the_nearest_rows_by_hand() -> None:
    rows = torch.tensor([[2.0, 0.0], [3.0, 3.0], [0.0, -1.0], [4.0, 3.0]])
    cosines, nearest = nearest_rows(rows, 2)
    assert nearest.tolist() == [[3, 1], [3, 0], [0, 3], [1, 0]]
    half = 1 / math.sqrt(2)
    expected = [[0.8, half], [1.4 * half, half], [0.0, -0.6], [1.4 * half, 0.8]]
    torch.testing.assert_close(cosines, torch.tensor(expected))


def test_the_nearest_rows_are_those_of_all_pairs_in_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(40, 6)
    cosine = torch.nn.functional.cosine_similarity(rows[:, None], rows[None], dim=-1).fill_diagonal_(-2)
    for block in (1, 100, 2**24):
        monkeypatch.setattr(directions, "BLOCK", block)
        cosines, nearest = nearest_rows(rows, 5)
        assert torch.equal(nearest, cosine.argsort(-1, descending=True)[:, :5])
        torch.testing.assert_close(cosines, cosine.sort(-1, descending=True).values[:, :5])
    assert nearest_rows(rows[:3], 10)[1].shape == (3, 2)

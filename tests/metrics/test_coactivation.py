"""Latents that fire together, in patterns written by hand."""

import numpy as np
import pytest
import scipy.sparse

from vsae_lightning.metrics import coactivation as module
from vsae_lightning.metrics.coactivation import Pair, coactivation, nearest_by_jaccard


def pattern(*rows: str, width: int) -> scipy.sparse.csr_array:
    """One row per string, naming the latents that fire: "02" is latents 0 and 2."""
    dense = np.zeros((len(rows), width), dtype=np.int32)
    for row, latents in enumerate(rows):
        dense[row, [int(latent) for latent in latents]] = 1
    return scipy.sparse.csr_array(dense)


# In 3, 3 and 2 of 6 rows; 0 and 1 together in 2, 1 and 2 in 1, 0 and 2 never.
THREE = pattern("01", "01", "0", "2", "12", "", width=3)


def test_three_latents_by_hand() -> None:
    found = coactivation(THREE)
    assert found.mean == pytest.approx((2 / 4 + 1 / 4 + 0) / 3)
    assert found.together == pytest.approx(2 / 3)
    assert found.largest.tolist() == [2 / 4, 2 / 4, 1 / 4]
    # Independent: 1/4 of 3/4 of the rows, and twice 1/6 of 4/6.
    assert found.chance == pytest.approx((1 / 3 + 1 / 4 + 1 / 4) / 3)
    assert [pair[:3] for pair in found.pairs] == [((0, 1), 2 / 4, 2), ((1, 2), 1 / 4, 1)]
    assert [pair.lift for pair in found.pairs] == pytest.approx([2 / (6 * 1 / 2 * 1 / 2), 1 / (6 * 1 / 2 * 1 / 3)])
    assert coactivation(THREE, pairs=1).pairs == found.pairs[:1]


def test_latents_that_always_fire_together_and_such_that_never_do() -> None:
    same = coactivation(pattern("01", "01", "", "", width=2))
    assert (same.mean, same.together, same.largest.tolist()) == (1, 1, [1, 1])
    assert same.pairs == [Pair((0, 1), 1.0, 2, 2.0)]
    never = coactivation(pattern("0", "1", "1", width=2))
    assert (never.mean, never.together, never.largest.tolist(), never.pairs) == (0, 0, [0, 0], [])


@pytest.mark.parametrize("block", [1, 50, 2**23])
def test_counts_are_those_of_a_loop(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    random = np.random.default_rng(0)
    dense = random.random((60, 17)) < random.uniform(0.05, 0.5, 17)
    dense[0] = True
    found = coactivation(scipy.sparse.csr_array(dense.astype(np.int32)), pairs=5)
    jaccard, chance = np.zeros((17, 17)), np.zeros((17, 17))
    for i in range(17):
        for j in set(range(17)) - {i}:
            jaccard[i, j] = (dense[:, i] & dense[:, j]).sum() / (dense[:, i] | dense[:, j]).sum()
            both = dense[:, i].mean() * dense[:, j].mean()
            chance[i, j] = both / (1 - (1 - dense[:, i].mean()) * (1 - dense[:, j].mean()))
    assert found.mean == pytest.approx(jaccard.sum() / (17 * 16))
    assert found.chance == pytest.approx(chance.sum() / (17 * 16))
    assert found.largest == pytest.approx(jaccard.max(1))
    assert found.together == 1
    best = sorted(((jaccard[i, j], -i, -j) for i in range(17) for j in range(i + 1, 17)), reverse=True)[:5]
    assert [pair.jaccard for pair in found.pairs] == pytest.approx([value for value, _, _ in best])
    for pair in found.pairs:
        assert pair.jaccard == pytest.approx(jaccard[pair.latents])


def test_latents_that_fire_independently_fire_together_by_chance() -> None:
    firing = np.random.default_rng(1).random((20_000, 12)) < np.linspace(0.05, 0.4, 12)
    found = coactivation(scipy.sparse.csr_array(firing.astype(np.int32)))
    assert found.mean == pytest.approx(found.chance, rel=0.02)
    assert all(pair.lift == pytest.approx(1, abs=0.05) for pair in found.pairs)


@pytest.mark.parametrize("block", [1, 50, 2**23])
def test_the_nearest_are_those_of_the_largest_jaccard_index(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    random = np.random.default_rng(3)
    dense = random.random((25, 9)) < 0.3  # with many that are equal
    dense[:, 4] = False
    dense[:, 7] = np.arange(25) == 0
    jaccards, nearest = nearest_by_jaccard(scipy.sparse.csr_array(dense.astype(np.int32)), 3)
    for i in range(9):
        pairs = [
            (-(dense[:, i] & dense[:, j]).sum() / (dense[:, i] | dense[:, j]).sum(), j)
            for j in range(9)
            if j != i and (dense[:, i] & dense[:, j]).any()
        ]
        expected = sorted(pairs)[:3]
        missing = 3 - len(expected)
        assert nearest[i].tolist() == [j for _, j in expected] + [-1] * missing
        assert jaccards[i].tolist() == pytest.approx([-jaccard for jaccard, _ in expected] + [0.0] * missing)
    assert nearest[4].tolist() == [-1, -1, -1]


def test_the_nearest_of_three_latents_by_hand() -> None:
    jaccards, nearest = nearest_by_jaccard(THREE, 2)
    assert nearest.tolist() == [[1, -1], [0, 2], [1, -1]]
    assert jaccards.tolist() == [[2 / 4, 0], [2 / 4, 1 / 4], [1 / 4, 0]]

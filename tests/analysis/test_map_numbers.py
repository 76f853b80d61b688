"""The numbers of a map, on points whose numbers are known."""

import numpy as np
import pytest

from vsae_lightning.analysis.map_numbers import (
    gini,
    hdbscan,
    k_means,
    least_cluster,
    map_numbers,
    silhouette,
    trustworthiness,
    two_nn,
)
from vsae_lightning.analysis.spaces import Origin, Points


def nearest_two(rows: np.ndarray) -> np.ndarray:
    return Points(rows).neighbours(2).distances


def pairwise(rows: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(rows[:, None] - rows[None], axis=-1))


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_two_nn_of_a_cube_turned_in_many_dimensions(dimension: int) -> None:
    chance = np.random.default_rng(dimension)
    turned = np.linalg.qr(chance.standard_normal((20, 20)))[0][:dimension]
    assert two_nn(nearest_two(chance.random((4000, dimension)) @ turned)) == pytest.approx(dimension, rel=0.08)


def test_two_nn_of_a_sphere_and_of_a_roll() -> None:
    chance = np.random.default_rng(0)
    sphere = chance.standard_normal((4000, 4))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    assert two_nn(nearest_two(sphere)) == pytest.approx(3, rel=0.08)
    angle, height = 5 + 9 * chance.random(4000), 20 * chance.random(4000)
    roll = np.stack([angle * np.cos(angle), height, angle * np.sin(angle)], axis=1)
    assert two_nn(nearest_two(roll)) == pytest.approx(2, rel=0.08)


def test_two_nn_by_hand() -> None:
    # mu = 2, 4, ..., 2^10, of which the largest is left out; twins do not count.
    log_mu = np.log(2) * np.arange(1, 11)
    nearest = np.stack([np.full(10, 3.0), 3 * np.exp(log_mu)], axis=1)
    y = -np.log(1 - np.arange(1, 10) / 10)
    expected = sum(log_mu[:9] * y) / sum(log_mu[:9] ** 2)
    with_twins = np.concatenate([np.zeros((3, 2)), nearest[::-1]])
    assert two_nn(with_twins) == pytest.approx(expected)
    assert two_nn(nearest[:9]) is None
    assert two_nn(np.ones((20, 2))) is None


def test_gini_by_hand() -> None:
    assert gini(np.full(7, 3.0)) == pytest.approx(0)
    assert gini(np.array([0.0, 1, 0, 0])) == pytest.approx(3 / 4)
    assert gini(np.array([3.0, 1])) == pytest.approx(1 / 4)
    values = np.random.default_rng(0).exponential(1, 50)
    pairs = abs(values[:, None] - values[None]).mean()
    assert gini(values) == pytest.approx(pairs / 2 / values.mean())


def test_silhouette_by_hand() -> None:
    # On a line: 0 and 1 against 4. b - a over the larger: (4 - 1) / 4, (3 - 1) / 3, and 0 of a cluster of one.
    points, clusters = np.array([[0.0], [1], [4]]), np.array([0, 0, 1])
    expected = (3 / 4 + 2 / 3 + 0) / 3
    assert silhouette(points, clusters) == pytest.approx(expected)
    assert silhouette(pairwise(points), clusters, precomputed=True) == pytest.approx(expected)
    assert silhouette(points, np.zeros(3, dtype=int)) is None
    assert silhouette(points, np.arange(3)) is None


def test_trustworthiness_is_1_of_the_points_themselves_and_about_a_half_of_others() -> None:
    points, others = np.random.default_rng(0).random((2, 300, 2))
    assert trustworthiness(pairwise(points), points) == 1
    assert trustworthiness(pairwise(points), others) == pytest.approx(0.5, abs=0.05)


def test_clusters_are_counted() -> None:
    chance = np.random.default_rng(0)
    blobs = np.repeat(10 * chance.standard_normal((7, 3)), 30, axis=0) + 0.1 * chance.standard_normal((210, 3))
    stray = np.concatenate([blobs, 1000 * np.arange(1, 41).reshape(-1, 1) ** 2 * np.ones((1, 3))])
    assert hdbscan(blobs, 5) == hdbscan(pairwise(blobs), 5, precomputed=True) == (7, 1)
    assert hdbscan(stray, 5) == (7, 210 / 250)
    assert hdbscan(blobs[:5], 5) == (0, 0)
    assert [least_cluster(points) for points in (100, 500, 2000, 30_000)] == [5, 5, 20, 300]


@pytest.mark.parametrize(("points", "clusters"), [(12, 2), (45, 4), (100, 10), (300, 10)])
def test_k_means_has_the_clusters_of_the_paper_and_the_largest_is_0(points: int, clusters: int) -> None:
    found = k_means(np.random.default_rng(0).random((points, 2)), 42)
    sizes = np.bincount(found)
    assert len(sizes) == clusters
    assert (np.diff(sizes) <= 0).all()


def test_a_subsample_stands_for_many_points(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(0)
    rows = np.repeat(20 * np.eye(4, 6), 150, axis=0) + chance.standard_normal((600, 6))
    origin = Origin.of(Points(rows), 20, 6, 0)
    clusters = k_means(rows, 0)
    whole = map_numbers(origin, rows[:, :2], clusters, 0)
    monkeypatch.setattr("vsae_lightning.analysis.map_numbers.SUBSAMPLE", 300)
    part = map_numbers(origin, rows[:, :2], clusters, 0)
    for one, other in zip(whole, part, strict=True):
        assert one.name == other.name
        assert other.value == pytest.approx(one.value, abs=0.05)
    assert "of 300 of the points" in part[0].help
    assert "of the points" not in whole[0].help

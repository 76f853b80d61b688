"""Distances, neighbours and axes against those of the dense matrix."""

import numpy as np
import pytest
import scipy.sparse

from vsae_lightning.analysis import spaces
from vsae_lightning.analysis.spaces import Origin, Patterns, Points, Space

ROWS = 700


def sparse_values(latents: int = 60) -> scipy.sparse.csr_array:
    """Of frequencies from rare to nearly always, signed, some latents copies of others with noise."""
    chance = np.random.default_rng(3)
    values = chance.standard_normal((latents, ROWS))
    values[1::4] = values[::4] + 0.3 * values[1::4]
    active = chance.random((latents, ROWS)) < np.linspace(0.03, 0.97, latents)[:, None]
    active[1::4] = active[::4]
    return scipy.sparse.csr_array((values * active).astype(np.float32))


def z_scored(values: scipy.sparse.csr_array) -> np.ndarray:
    dense = values.toarray().astype(np.float64)
    return (dense - dense.mean(1, keepdims=True)) / dense.std(1, keepdims=True) / np.sqrt(ROWS)


def pairwise(rows: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(rows[:, None] - rows[None], axis=-1))


@pytest.fixture(params=["patterns", "points", "directions"])
def space_and_rows(request: pytest.FixtureRequest) -> tuple[Space, np.ndarray]:
    rows = np.random.default_rng(1).standard_normal((60, 9))
    if request.param == "patterns":
        return Patterns(sparse_values()), z_scored(sparse_values())
    if request.param == "points":
        return Points(rows), rows
    return Points.directions(rows), rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_neighbours_are_exact(space_and_rows: tuple[Space, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spaces, "BLOCK", 60 * 7)  # several blocks, the last one shorter
    space, rows = space_and_rows
    distances = pairwise(rows)
    np.fill_diagonal(distances, np.inf)
    found = space.neighbours(8)
    assert (found.indices == np.argsort(distances, axis=1)[:, :8]).all()
    np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :8], rtol=1e-6)


def test_distances_are_those_of_the_rows(space_and_rows: tuple[Space, np.ndarray]) -> None:
    space, rows = space_and_rows
    some = np.array([2, 3, 17, 40, 59])
    assert len(space) == 60
    np.testing.assert_allclose(space.distances(some), pairwise(rows[some]), atol=1e-6)


def test_components_are_the_principal_ones(space_and_rows: tuple[Space, np.ndarray]) -> None:
    space, rows = space_and_rows
    centred = rows - rows.mean(0)
    axes, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    found = space.components(59, seed=0)
    np.testing.assert_allclose(abs(found[:, :3]), abs(axes[:, :3] * lengths[:3]), atol=1e-6)
    np.testing.assert_array_equal(found, space.components(59, seed=0))


def test_correlations_are_those_of_numpy() -> None:
    values = sparse_values()
    expected = np.corrcoef(values.toarray().astype(np.float64))
    np.testing.assert_allclose(Patterns(values).correlations(slice(5, 25)), expected[5:25], atol=1e-10)


def test_no_more_components_than_there_are() -> None:
    rows = np.random.default_rng(0).standard_normal((20, 4))
    assert Points(rows).components(50, 0).shape == (20, 4)
    assert Patterns(sparse_values(12)).components(50, 0).shape == (12, 11)
    origin = Origin.of(Points(rows), 5, 2, 0)
    assert (origin.neighbours.indices.shape, origin.components.shape) == ((20, 5), (20, 2))

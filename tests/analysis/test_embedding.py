"""What is near stays near, equal input gives an equal map, and a missing package is told."""

from collections.abc import Callable

import numpy as np
import pytest

from vsae_lightning.analysis import embedding
from vsae_lightning.analysis.embedding import neighbours_for, require_umap, tsne, tsne_map, umap_map
from vsae_lightning.analysis.spaces import Origin, Points
from vsae_lightning.errors import InputError


def blobs(of_each: int = 20) -> np.ndarray:
    """Three tight ones, `of_each` rows in each, at right angles; of very different lengths."""
    chance = np.random.default_rng(0)
    centres = np.repeat(np.eye(3, 12), of_each, axis=0)
    rows = centres + 0.05 * chance.standard_normal(centres.shape)
    return (rows * np.exp(chance.standard_normal((len(rows), 1)))).astype(np.float32)


def origin(rows: np.ndarray) -> Origin:
    space = Points.directions(rows)
    return Origin.of(space, neighbours_for(len(rows), 30), 2, 0)


def same_blob_nearest(drawn: np.ndarray, of_each: int = 20) -> bool:
    distances = np.linalg.norm(drawn[:, None] - drawn[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    return bool((distances.argmin(1) // of_each == np.arange(len(drawn)) // of_each).all())


@pytest.mark.parametrize("draw", [tsne_map, umap_map])
def test_blobs_stay_apart_and_a_map_is_the_same_again(draw: Callable[..., np.ndarray]) -> None:
    first, second = (draw(origin(blobs()), seed=1) for _ in range(2))
    assert first.shape == (60, 2)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert same_blob_nearest(first)
    np.testing.assert_array_equal(first, second)


def test_by_cosine_is_by_direction_whatever_the_lengths() -> None:
    drawn = tsne(blobs(), "cosine")
    assert same_blob_nearest(drawn)
    np.testing.assert_array_equal(drawn, tsne(Points.directions(blobs()).rows))


@pytest.mark.parametrize(
    ("points", "perplexity", "expected"),
    # 3 times the perplexity, that no more than (n - 1) // 3; at least the 14 others of UMAP, where there are so many
    [(1000, 30, 90), (60, 30, 57), (10, 30, 9), (1000, 2, 14), (12, 2, 11), (4, 30, 3)],
)
def test_how_many_neighbours(points: int, perplexity: float, expected: int) -> None:
    assert neighbours_for(points, perplexity) == expected


def test_four_points_have_a_map() -> None:
    assert np.isfinite(tsne(np.eye(4, dtype=np.float32))).all()


def test_without_umap_learn_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"umap-learn is not installed: pip install -e '\.\[umap\]'"):
        require_umap()

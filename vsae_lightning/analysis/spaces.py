"""Points and how far they are from each other: what a map is drawn from, and held against."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float, Int

BLOCK = 2**24  # correlations that are in memory together
POWERS = 4


class Nearest(NamedTuple):
    """The nearest other points of every point, the nearest first.

    Attributes:
        indices: Which ones.
        distances: How far.
    """

    indices: Int[np.ndarray, "n count"]
    distances: Float[np.ndarray, "n count"]


class Space(ABC):
    """Points with a Euclidean distance; at least four."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def neighbours(self, count: int) -> Nearest:
        """Exact ones, so many of each point, fewer than there are points."""

    @abstractmethod
    def distances(self, some: Int[np.ndarray, " some"]) -> Float[np.ndarray, "some some"]:
        """Between some of the points."""

    @abstractmethod
    def components(self, count: int, seed: int) -> Float[np.ndarray, "n components"]:
        """The points on their first principal axes, so many at most."""


class Origin(NamedTuple):
    """What maps are drawn from, once for all of them.

    Attributes:
        space: The points.
        neighbours: Of each of them.
        components: The points on their first principal axes.
    """

    space: Space
    neighbours: Nearest
    components: Float[np.ndarray, "n components"]

    @classmethod
    def of(cls, space: Space, neighbours: int, components: int, seed: int) -> "Origin":
        """So many neighbours, fewer than there are points, and so many axes at most."""
        return cls(space, space.neighbours(neighbours), space.components(components, seed))


class Points(Space):
    """Rows of numbers.

    Args:
        rows: One point each.
    """

    def __init__(self, rows: Float[np.ndarray, "n dimensions"]) -> None:
        self.rows = rows

    @classmethod
    def directions(cls, rows: Float[np.ndarray, "n dimensions"]) -> "Points":
        """Rows brought to length 1, so that their squared distance is 2 (1 - cosine)."""
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return cls(rows / np.maximum(lengths, np.finfo(rows.dtype).tiny))

    def __len__(self) -> int:
        return len(self.rows)

    def neighbours(self, count: int) -> Nearest:
        from sklearn.neighbors import NearestNeighbors

        distances, indices = NearestNeighbors(n_neighbors=count).fit(self.rows).kneighbors()
        return Nearest(indices, distances)

    def distances(self, some: Int[np.ndarray, " some"]) -> Float[np.ndarray, "some some"]:
        from sklearn.metrics import euclidean_distances

        return np.asarray(euclidean_distances(self.rows[some]))

    def components(self, count: int, seed: int) -> Float[np.ndarray, "n components"]:
        from sklearn.decomposition import PCA

        return np.asarray(PCA(min(count, *self.rows.shape), random_state=seed).fit_transform(self.rows))


class Patterns(Space):
    """Latents by what they do in the same rows of activations.

    A point is the values of a latent in all rows, z-scored, over the root of the number of rows: of two points the
    squared distance is 2 (1 - rho), rho the correlation of the latents. Zeros are never stored.

    Args:
        values: Of the latents; none is constant.
    """

    def __init__(self, values: scipy.sparse.csr_array) -> None:
        rows = values.shape[1]
        precise = values.astype(np.float64)
        mean = precise.sum(axis=1) / rows
        deviation = np.sqrt((precise.multiply(precise)).sum(axis=1) / rows - mean**2)
        self._values = values
        self._offsets = mean / deviation
        self._scaled = scipy.sparse.diags_array(1 / (deviation * np.sqrt(rows))) @ precise
        self._by_row = self._scaled.T.tocsr()

    def __len__(self) -> int:
        return int(self._values.shape[0])

    def correlations(self, some: slice) -> Float[np.ndarray, "some n"]:
        """Of some latents with all."""
        products = (self._scaled[some] @ self._by_row).toarray()
        return products - np.outer(self._offsets[some], self._offsets)

    def neighbours(self, count: int) -> Nearest:
        step = max(1, BLOCK // len(self))
        parts = [self._neighbours(slice(first, first + step), count) for first in range(0, len(self), step)]
        indices, distances = zip(*parts, strict=True)
        return Nearest(np.concatenate(indices), np.concatenate(distances))

    def distances(self, some: Int[np.ndarray, " some"]) -> Float[np.ndarray, "some some"]:
        few = Patterns(self._values[some])
        distances = _distance(few.correlations(slice(None)))
        np.fill_diagonal(distances, 0)
        return distances

    def components(self, count: int, seed: int) -> Float[np.ndarray, "n components"]:
        """By a randomized range finder with power iterations (Halko, Martinsson & Tropp 2011)."""
        count = min(count, min(self._scaled.shape) - 1)
        sketch = min(count + 10, *self._scaled.shape)
        basis = np.random.default_rng(seed).standard_normal((self._scaled.shape[1], sketch))
        for _ in range(POWERS):
            ours, _ = np.linalg.qr(self._times(basis))
            basis, _ = np.linalg.qr(self._transposed_times(ours))
        axes, lengths, _ = np.linalg.svd(self._times(basis), full_matrices=False)
        return np.asarray((axes * lengths)[:, :count])

    def _neighbours(self, some: slice, count: int) -> tuple[np.ndarray, np.ndarray]:
        correlations = self.correlations(some)
        own = np.arange(len(correlations))
        correlations[own, some.start + own] = -np.inf
        largest = torch.from_numpy(correlations).topk(count)
        return largest.indices.numpy(), _distance(largest.values.numpy())

    def _times(self, vectors: Float[np.ndarray, "rows some"]) -> Float[np.ndarray, "n some"]:
        """The product of the points less their mean, which are never made, with vectors."""
        offsets = self._offsets / np.sqrt(len(vectors))
        found = self._scaled @ vectors - np.outer(offsets, vectors.sum(axis=0))
        return found - found.mean(axis=0)

    def _transposed_times(self, vectors: Float[np.ndarray, "n some"]) -> Float[np.ndarray, "rows some"]:
        centred = vectors - vectors.mean(axis=0)
        return self._by_row @ centred - self._offsets @ centred / np.sqrt(self._scaled.shape[1])


def _distance(correlations: Float[np.ndarray, "some others"]) -> Float[np.ndarray, "some others"]:
    return np.sqrt(2 * np.clip(1 - correlations, 0, None))

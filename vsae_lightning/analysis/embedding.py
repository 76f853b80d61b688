"""Many dimensions to the two of a map."""

from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float

from vsae_lightning.analysis.spaces import Origin, Points
from vsae_lightning.errors import InputError

Metric = Literal["euclidean", "cosine"]
UMAP_NEIGHBOURS = 15  # the default of umap-learn; the point itself is one of them


def tsne(
    rows: Float[np.ndarray, "n dimensions"], metric: Metric = "euclidean", perplexity: float = 30, seed: int = 42
) -> Float[np.ndarray, "n 2"]:
    """t-SNE of at least four rows; see `tsne_map`.

    Args:
        rows: What is to be near each other where it is near here.
        metric: By which distance; "cosine": the Euclidean one of rows of length 1.
        perplexity: No more than (n - 1) // 3 (Baker & Li 2025, their code).
        seed: Of the start.
    """
    space = Points.directions(rows) if metric == "cosine" else Points(rows)
    return tsne_map(Origin.of(space, neighbours_for(len(space), perplexity), 2, seed), perplexity, seed)


def neighbours_for(points: int, perplexity: float) -> int:
    """How many neighbours of each point a map needs."""
    return max(_of_tsne(points, perplexity), min(UMAP_NEIGHBOURS, points) - 1)


def tsne_map(origin: Origin, perplexity: float = 30, seed: int = 42) -> Float[np.ndarray, "n 2"]:
    """t-SNE (van der Maaten & Hinton 2008) of exact neighbours, by openTSNE; 1,000 iterations.

    It starts with the first two principal components (Kobak & Berens 2019), and uses as many threads as torch; with
    one, equal input gives an equal map.

    Args:
        origin: With as many neighbours as `neighbours_for` says.
        perplexity: No more than (n - 1) // 3.
        seed: Of openTSNE.
    """
    from openTSNE import TSNE
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.initialization import rescale
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    start, neighbours = origin.components[:, :2], origin.neighbours
    perplexity = _perplexity(len(start), perplexity)
    settings: dict[str, Any] = {"n_jobs": torch.get_num_threads(), "random_state": seed}
    count = _of_tsne(len(start), perplexity)
    known = PrecomputedNeighbors(neighbours.indices[:, :count], neighbours.distances[:, :count])
    affinities = PerplexityBasedNN(perplexity=perplexity, knn_index=known, **settings)
    found: Any = TSNE(perplexity=perplexity, early_exaggeration_iter=250, n_iter=750, **settings).fit(
        affinities=affinities, initialization=rescale(start.astype(np.float64))
    )
    return np.asarray(found, dtype=np.float32)


def tsne_settings(points: int, perplexity: float, seed: int) -> str:
    """How `tsne_map` draws, in words."""
    return f"t-SNE, perplexity {_perplexity(points, perplexity):g}, 1,000 iterations; seed {seed}"


def umap_settings(points: int, seed: int) -> str:
    """How `umap_map` draws, in words."""
    return f"UMAP, {min(UMAP_NEIGHBOURS, points)} neighbours; seed {seed}"


def umap_map(origin: Origin, seed: int = 42) -> Float[np.ndarray, "n 2"]:
    """UMAP (McInnes, Healy & Melville 2018) of exact neighbours, by umap-learn, on one thread; it starts as t-SNE does.

    Args:
        origin: With as many neighbours as `neighbours_for` says.
        seed: Of its random choices.

    Raises:
        InputError: umap-learn is not installed.
    """
    require_umap()
    from umap import UMAP

    start, neighbours = origin.components[:, :2], origin.neighbours
    others = min(UMAP_NEIGHBOURS - 1, neighbours.indices.shape[1])
    themselves = np.arange(len(start))[:, None]
    known = (
        np.hstack([themselves, neighbours.indices[:, :others]]),
        np.hstack([np.zeros_like(themselves, dtype=np.float32), neighbours.distances[:, :others].astype(np.float32)]),
    )
    scaled = (10 * start / np.abs(start).max()).astype(np.float32)  # the scale of its own starts
    found = UMAP(others + 1, init=scaled, precomputed_knn=known, random_state=seed, n_jobs=1).fit_transform(scaled)
    return np.asarray(found, dtype=np.float32)


def require_umap() -> None:
    """Raise `InputError` where umap-learn is not installed."""
    if find_spec("umap") is None:
        raise InputError("maps.which names a UMAP, and umap-learn is not installed: pip install -e '.[umap]'.")


def _perplexity(points: int, perplexity: float) -> float:
    return min(perplexity, (points - 1) // 3)


def _of_tsne(points: int, perplexity: float) -> int:
    """Neighbours: three times the perplexity (van der Maaten 2014)."""
    return int(3 * _perplexity(points, perplexity))

"""What makes a map more than a picture: numbers that say whether what is seen in it is there."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vsae_lightning.analysis.spaces import Origin

SUBSAMPLE = 2000  # points of which all distances are computed
NEAR = 10


class Number(NamedTuple):
    """One figure of a map.

    Attributes:
        name: What it is, in a word or two.
        value: None where it does not exist, such as the silhouette of one cluster.
        help: How to read it, in one line.
    """

    name: str
    value: float | None
    help: str


class Clusters(NamedTuple):
    """How many there are, and the share of points that are in one."""

    count: int
    share: float


def map_numbers(
    origin: Origin, drawn: Float[np.ndarray, "n 2"], clusters: Int[np.ndarray, " n"], seed: int
) -> list[Number]:
    """Of one map.

    Args:
        origin: What it was drawn from; at least two neighbours of each point.
        drawn: The map.
        clusters: The clusters on it.
        seed: Of k-means, and of which points are taken where not all are.
    """
    some = _some(len(drawn), seed)
    taken = "" if len(some) == len(drawn) else f", of {len(some):,} of the points"
    distances = origin.space.distances(some)
    found = k_means(origin.components, seed)[some]
    size = least_cluster(len(some))
    on_map = hdbscan(drawn, least_cluster(len(drawn)))
    before = hdbscan(distances, size, precomputed=True)
    return [
        Number(
            "silhouette on the map",
            silhouette(drawn[some], clusters[some]),
            f"of the clusters that k-means finds on the map; -1 to 1, 1: apart and tight{taken}",
        ),
        Number(
            "silhouette before the map",
            silhouette(distances, found, precomputed=True),
            f"of the clusters that k-means finds on {origin.components.shape[1]} principal components, by the "
            f"distances that the map was drawn from; near 0: there are no clusters, whatever the map shows{taken}",
        ),
        Number(
            "trustworthiness",
            trustworthiness(distances, drawn[some]),
            f"how far the {NEAR} nearest on the map are near before the map (Venna & Kaski 2001); 1: all, "
            f"0.5: by chance{taken}",
        ),
        Number(
            "clusters on the map",
            on_map.count,
            f"that HDBSCAN finds on the map, of at least {least_cluster(len(drawn))} points each",
        ),
        Number(
            "clusters before the map",
            before.count,
            f"that HDBSCAN finds by the distances that the map was drawn from, of at least {size} points each{taken}",
        ),
        Number(
            "share in clusters before the map",
            before.share,
            f"of the points, in those of HDBSCAN; the others are too far from each other to be in any{taken}",
        ),
        Number(
            "intrinsic dimension",
            two_nn(origin.neighbours.distances[:, :2]),
            "how many directions the points spread in, from the distances of the two nearest (TwoNN, Facco et al. "
            "2017)",
        ),
    ]


def k_means(points: Float[np.ndarray, "n dimensions"], seed: int) -> Int[np.ndarray, " n"]:
    """min(10, max(2, n // 10)) clusters (Baker & Li 2025, their code), the largest is 0."""
    from sklearn.cluster import KMeans

    count = min(10, max(2, len(points) // 10))
    found = KMeans(count, n_init=10, random_state=seed).fit_predict(points)
    order = np.argsort(-np.bincount(found, minlength=count), kind="stable")
    return np.argsort(order)[found]


def silhouette(
    points: Float[np.ndarray, "n dimensions"], clusters: Int[np.ndarray, " n"], precomputed: bool = False
) -> float | None:
    """Mean over points of (b - a) / max(a, b): a the mean distance in its cluster, b in the nearest other
    (Rousseeuw 1987); `precomputed`: points are distances."""
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(clusters)) < len(points):
        return None
    return float(silhouette_score(points, clusters, metric="precomputed" if precomputed else "euclidean"))


def trustworthiness(distances: Float[np.ndarray, "n n"], drawn: Float[np.ndarray, "n 2"]) -> float:
    """1 - 2 / (n k (2n - 3k - 1)) sum of (rank before the map - k) over neighbours on the map that are none before
    (Venna & Kaski 2001); k is 10, and less than half of the points."""
    from sklearn.manifold import trustworthiness

    return float(trustworthiness(distances, drawn, n_neighbors=min(NEAR, (len(drawn) - 1) // 2), metric="precomputed"))


def least_cluster(points: int) -> int:
    """Of how many points a cluster is, at least: one in a hundred of them, and five."""
    return max(5, points // 100)


def hdbscan(points: Float[np.ndarray, "n dimensions"], least: int, precomputed: bool = False) -> Clusters:
    """What HDBSCAN (Campello, Moulavi & Sander 2013) finds, of at least so many points each; `precomputed`: points are
    distances."""
    from sklearn.cluster import HDBSCAN

    if len(points) <= least:
        return Clusters(0, 0.0)
    metric = "precomputed" if precomputed else "euclidean"
    found = HDBSCAN(min_cluster_size=least, metric=metric, copy=True).fit_predict(points)
    return Clusters(int(found.max()) + 1, float((found >= 0).mean()))


def two_nn(nearest: Float[np.ndarray, "n 2"]) -> float | None:
    """The dimension of a manifold from distances to the first and the second neighbour (TwoNN, Facco et al. 2017).

    mu = r2 / r1 follows 1 - F(mu) = mu^-d: d is the slope, through the origin, of -log(1 - F) over log mu, without
    the largest tenth of mu. Points that have a twin are left out; None where fewer than ten are left.
    """
    apart = nearest[nearest[:, 0] > 0].astype(np.float64)
    if len(apart) < 10:
        return None
    log_mu = np.sort(np.log(apart[:, 1] / apart[:, 0]))
    shares = np.arange(1, len(log_mu) + 1) / len(log_mu)
    kept = slice(0, int(0.9 * len(log_mu)))
    x, y = log_mu[kept], -np.log1p(-shares[kept])
    return float(x @ y / (x @ x)) if x.any() else None


def gini(values: Float[np.ndarray, " n"]) -> float:
    """How unequal values of at least 0 are: 0: all equal; near 1: one has it all. Half the mean absolute difference
    of all pairs, over the mean."""
    rising = np.sort(values.astype(np.float64))
    n = len(rising)
    return float((2 * np.arange(1, n + 1) - n - 1) @ rising / (n * rising.sum()))


def _some(points: int, seed: int) -> Int[np.ndarray, " some"]:
    if points <= SUBSAMPLE:
        return np.arange(points)
    return np.sort(np.random.default_rng(seed).choice(points, SUBSAMPLE, replace=False))

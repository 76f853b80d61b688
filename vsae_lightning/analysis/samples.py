"""The map of samples: rows of the text that an autoencoder sees alike lie side by side."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int

from vsae_lightning.analysis.embedding import tsne_map, tsne_settings
from vsae_lightning.analysis.map_numbers import Number, k_means, map_numbers
from vsae_lightning.analysis.maps import COMPONENTS, FEWEST, FeatureMap, Maps, map_origin, map_positions
from vsae_lightning.analysis.observation import Observation
from vsae_lightning.analysis.spaces import Points

STRONGEST = 5
TITLE = "t-SNE of samples"


@dataclass(frozen=True)
class Samples:
    """Where each of some rows lies.

    Attributes:
        how: What the map was drawn from and by what, in one line.
        positions: Of the rows in the text; rising.
        drawn: Where they are on the map.
        cluster: The k-means cluster of each on the map; 0 is the largest.
        norm: |x| of their activations.
        held_out: Which ones training did not see.
        strongest: The latents of the largest |value| in each and their values, as many as there are, five at most.
        numbers: What is seen in the map, in figures.
    """

    how: str
    positions: Int[np.ndarray, " samples"]
    drawn: Float[np.ndarray, "samples 2"]
    cluster: Int[np.ndarray, " samples"]
    norm: Float[np.ndarray, " samples"]
    held_out: Bool[np.ndarray, " samples"]
    strongest: list[list[tuple[int, float]]]
    numbers: list[Number]


def sample_map(observation: Observation, options: Maps) -> Samples | None:
    """t-SNE of the latents of `options.samples` random rows, of which the first 50 principal components are taken
    (Baker & Li 2025, their code); None where there are too few rows or latents."""
    excerpt = observation.excerpt
    among = map_positions(observation, options)
    if not options.samples or len(among) < FEWEST:
        return None
    chance = np.random.default_rng(options.seed)
    positions = np.sort(chance.choice(among, min(options.samples, len(among)), replace=False))
    firing = np.flatnonzero(observation.firings.counts)
    latents = observation.firings.matrix(firing, positions)
    there = np.diff(latents.indptr) > 0  # what fires in none of these rows adds nothing
    firing, latents = firing[there], latents[there].T.tocsr()
    if len(firing) < FEWEST:
        return None
    origin = map_origin(Points(_components(latents, options.seed)), options)
    drawn = tsne_map(origin, options.perplexity, options.seed)
    cluster = k_means(drawn, options.seed)
    by = tsne_settings(len(positions), options.perplexity, options.seed)
    how = (
        f"latents of {len(positions):,} random rows; their first {origin.components.shape[1]} principal components; "
        f"exact neighbours; {by}; k-means clusters on the map"
    )
    return Samples(
        how,
        positions,
        drawn,
        cluster,
        observation.norms[excerpt.rows_at(positions)],
        positions // excerpt.context_length < excerpt.held_out,
        _strongest(latents, firing),
        map_numbers(origin, drawn, cluster, options.seed),
    )


def clusters_of_strongest(samples: Samples, features: FeatureMap) -> list[int | None]:
    """Of each sample the cluster on a map of features where its strongest latent is; None: it is not on that map."""
    cluster = dict(zip(features.features.tolist(), features.cluster.tolist(), strict=True))
    return [cluster.get(latents[0][0]) if latents else None for latents in samples.strongest]


def _components(latents: scipy.sparse.csr_array, seed: int) -> Float[np.ndarray, "samples components"]:
    from sklearn.decomposition import PCA

    count = min(COMPONENTS, min(latents.shape) - 1)
    return np.asarray(PCA(count, svd_solver="arpack", random_state=seed).fit_transform(latents))


def _strongest(latents: scipy.sparse.csr_array, names: Int[np.ndarray, " columns"]) -> list[list[tuple[int, float]]]:
    found = []
    for first, end in zip(latents.indptr[:-1], latents.indptr[1:], strict=True):
        values = latents.data[first:end]
        order = first + np.argsort(-np.abs(values), kind="stable")[:STRONGEST]
        found.append(list(zip(names[latents.indices[order]].tolist(), latents.data[order].tolist(), strict=True)))
    return found

"""Maps of features: those that act alike, or point alike, lie side by side."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from vsae_lightning.analysis.embedding import (
    neighbours_for,
    require_umap,
    tsne_map,
    tsne_settings,
    umap_map,
    umap_settings,
)
from vsae_lightning.analysis.map_numbers import Number, gini, k_means, map_numbers
from vsae_lightning.analysis.observation import Observation
from vsae_lightning.analysis.spaces import Origin, Patterns, Points, Space
from vsae_lightning.errors import InputError, did_you_mean, require_at_least
from vsae_lightning.evaluation.evaluation import Track
from vsae_lightning.evaluation.labelled import labelled_names
from vsae_lightning.metrics.directions import dispersion

TITLES = {
    "activation": "t-SNE by activation",
    "decoder": "t-SNE by decoder direction",
    "activation_umap": "UMAP by activation",
    "decoder_umap": "UMAP by decoder direction",
}
FEWEST = 10  # points of which there is a map
COMPONENTS = 50  # principal ones, as Baker & Li (2025) take of samples


@dataclass(frozen=True)
class Maps:
    """Which maps are drawn, and of what.

    Args:
        which: Names of maps of features, separated by commas: activation, decoder (t-SNE), activation_umap,
            decoder_umap (UMAP, the extra `umap`); none: no map of features.
        perplexity: Of t-SNE; no more than a third of the points.
        seed: Of the choice of rows, of starts and of clusters.
        min_firings: Features that fire less often in the rows looked at are on no map.
        min_density: Nor those that fire in a smaller share of them; Baker & Li (2025) take 0.01.
        max_rows: How many rows of the text, chosen at random, the maps are drawn from.
        samples: How many of these rows the map of samples shows; 0: there is none.
        labels: Names of labelled sets of sae-probes, separated by commas: a feature is labelled with the one that it
            tells apart best.

    Raises:
        InputError: A map that there is not, or a number out of its range.
    """

    which: str = "activation,decoder"
    perplexity: float = 30
    seed: int = 42
    min_firings: int = 10
    min_density: float = 0.0
    max_rows: int = 200_000
    samples: int = 2000
    labels: str = ""

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in TITLES:
                known = ", ".join(TITLES)
                raise InputError(
                    f"maps.which: there is no map {name!r}; there are {known}.{did_you_mean(name, TITLES)}"
                )
        if any(name.endswith("umap") for name in self.names):
            require_umap()
        known_labels = labelled_names() if self.label_names else []
        for name in self.label_names:
            if name not in known_labels:
                known = f"{', '.join(known_labels[:3])} and {len(known_labels) - 3} more"
                raise InputError(
                    f"maps.labels: there is no labelled set {name!r}; there are {known}."
                    + did_you_mean(name, known_labels)
                )
        for name, least in (("perplexity", 2), ("seed", 0), ("min_firings", 2), ("samples", 0), ("max_rows", 100)):
            require_at_least(least, **{f"maps.{name}": getattr(self, name)})
        if not 0 <= self.min_density < 1:
            raise InputError(f"maps.min_density is {self.min_density}; it must be at least 0 and less than 1.")
        if 0 < self.samples < FEWEST:
            raise InputError(f"maps.samples is {self.samples}; it must be 0, or at least {FEWEST}.")

    @property
    def names(self) -> list[str]:
        """Of the maps of features, once each."""
        return [name for name in _words(self.which) if name != "none"]

    @property
    def label_names(self) -> list[str]:
        """Of the labelled sets, once each."""
        return _words(self.labels)


@dataclass(frozen=True)
class FeatureMap:
    """Where each feature lies.

    Attributes:
        name: Of the map, as `Maps.which` has it.
        title: The same for a reader.
        how: What it was drawn from and by what, in one line.
        features: Those on it, rising.
        drawn: Where they are.
        cluster: The k-means cluster of each on the map; 0 is the largest.
        numbers: What is seen in it, in figures.
    """

    name: str
    title: str
    how: str
    features: Int[np.ndarray, " features"]
    drawn: Float[np.ndarray, "features 2"]
    cluster: Int[np.ndarray, " features"]
    numbers: list[Number]


def feature_maps(observation: Observation, options: Maps, track: Track) -> list[FeatureMap]:
    """As `options` say; none where too few features fire often enough.

    Args:
        observation: What the autoencoder did.
        options: Which maps.
        track: Shows how far it is.
    """
    positions = map_positions(observation, options)
    features, counts = mapped_features(observation, options, positions)
    if len(features) < FEWEST:
        return []
    shared = _numbers_of_features(observation, features, counts / len(positions)) if options.names else []
    origins: dict[str, Origin] = {}
    maps = []
    for name in track(options.names, len(options.names), "maps"):
        kind = name.removesuffix("_umap")
        if kind not in origins:
            origins[kind] = map_origin(_space(kind, observation, features, positions), options)
        maps.append(_map(name, origins[kind], features, len(positions), shared, options))
    return maps


def map_origin(space: Space, options: Maps) -> Origin:
    """With what the maps that `options` ask for need of it."""
    return Origin.of(space, neighbours_for(len(space), options.perplexity), COMPONENTS, options.seed)


def map_positions(observation: Observation, options: Maps) -> Int[np.ndarray, " rows"]:
    """Indices of at most `max_rows` random rows that maps are drawn from and training keeps, ascending."""
    excerpt = observation.excerpt
    chosen = np.flatnonzero(observation.kept)
    if len(chosen) > options.max_rows:
        random = np.random.default_rng(options.seed)
        chosen = chosen[np.sort(random.choice(len(chosen), options.max_rows, replace=False))]
    return excerpt.positions(chosen)


def mapped_features(
    observation: Observation, options: Maps, positions: Int[np.ndarray, " rows"]
) -> tuple[Int[np.ndarray, " features"], Int[np.ndarray, " features"]]:
    """Those that fire often enough at the positions and are not constant, rising, and how often each fires."""
    least = max(options.min_firings, options.min_density * len(positions))
    chosen = np.zeros(observation.excerpt.tokens.size, dtype=bool)
    chosen[positions] = True
    able = np.flatnonzero(observation.firings.counts >= least)
    counts = np.zeros(len(able), dtype=np.int64)
    for place, latent in enumerate(able.tolist()):
        events = observation.firings.of(latent)
        values = events.values[chosen[events.positions]]
        if len(values) < len(positions) or np.ptp(values):  # z-scores of a constant do not exist
            counts[place] = len(values)
    kept = counts >= least
    return able[kept], counts[kept]


def _words(listed: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in listed.split(",") if word.strip()))


def _space(
    kind: str, observation: Observation, features: Int[np.ndarray, " features"], positions: Int[np.ndarray, " rows"]
) -> Space:
    if kind == "activation":
        return Patterns(observation.firings.matrix(features, positions))
    return Points.directions(_decoder_rows(observation, features).cpu().numpy())


def _map(
    name: str,
    origin: Origin,
    features: Int[np.ndarray, " features"],
    rows: int,
    shared: list[Number],
    options: Maps,
) -> FeatureMap:
    if name.endswith("umap"):
        drawn, by = umap_map(origin, options.seed), umap_settings(len(features), options.seed)
    else:
        drawn = tsne_map(origin, options.perplexity, options.seed)
        by = tsne_settings(len(features), options.perplexity, options.seed)
    cluster = k_means(drawn, options.seed)
    numbers = map_numbers(origin, drawn, cluster, options.seed) + shared
    how = f"{_distance(name, rows)}; exact neighbours; {by}; k-means clusters on the map"
    return FeatureMap(name, TITLES[name], how, features, drawn, cluster, numbers)


def _distance(name: str, rows: int) -> str:
    if name.startswith("activation"):
        return f"distance of the activations in {rows:,} rows, z-scored per feature: sqrt(2 - 2 correlation)"
    return "distance of decoder directions: sqrt(2 - 2 cosine)"


def _numbers_of_features(
    observation: Observation, features: Int[np.ndarray, " features"], density: Float[np.ndarray, " features"]
) -> list[Number]:
    spread = dispersion(_decoder_rows(observation, features))
    return [
        Number(
            "dispersion",
            spread.ratio,
            "mean distance (1 - cosine) of a decoder row to its nearest, over that of as many random directions; "
            "below 1: in clusters, above 1: more even than by chance",
        ),
        Number("Gini of densities", gini(density), "0: all of these features fire equally often; near 1: a few do"),
    ]


def _decoder_rows(observation: Observation, features: Int[np.ndarray, " features"]) -> Float[torch.Tensor, "n d_in"]:
    rows = observation.subject.autoencoder.W_dec.detach()
    return rows[torch.from_numpy(features).to(rows.device)].float()

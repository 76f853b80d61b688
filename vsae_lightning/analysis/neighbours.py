"""Which features are near a feature: by their directions, and by when they fire."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vsae_lightning.analysis.observation import Observation
from vsae_lightning.metrics.coactivation import nearest_by_jaccard
from vsae_lightning.metrics.directions import nearest_rows

PAIRS = 2**27  # of firings in the same row


class Neighbours(NamedTuple):
    """The nearest of every feature, the nearest first; -1 where there are no more.

    Attributes:
        features: Which they are.
        likeness: How near: a cosine, or a Jaccard index.
    """

    features: Int[np.ndarray, "d_sae count"]
    likeness: Float[np.ndarray, "d_sae count"]

    def of(self, feature: int) -> list[tuple[int, float]]:
        """Feature and likeness of those of one feature."""
        pairs = zip(self.features[feature].tolist(), self.likeness[feature].tolist(), strict=True)
        return [(near, likeness) for near, likeness in pairs if near >= 0]


def by_decoder(observation: Observation, count: int = 10) -> Neighbours:
    """Those with the largest cosine of the decoder rows, exact, of all features, also those that never fire."""
    cosines, nearest = nearest_rows(observation.subject.autoencoder.W_dec.detach().float(), count)
    return Neighbours(nearest.cpu().numpy(), cosines.cpu().numpy())


def by_firing(observation: Observation, count: int = 10, pairs: int = PAIRS) -> Neighbours:
    """Those with the largest Jaccard index of the rows in which they fire: in both / in either.

    Args:
        observation: What fired.
        count: How many of each feature.
        pairs: So many pairs of latents that fire in the same row are counted at most, in the first rows of the
            excerpt: time grows with the square of how many fire in a row.
    """
    l0 = np.arange(len(observation.l0), dtype=np.float64)
    pairs_per_row = (observation.l0 * l0**2).sum() / observation.rows
    rows = min(int(pairs / max(pairs_per_row, 1)) + 1, observation.excerpt.rows)
    positions = observation.excerpt.positions(np.arange(rows))
    values = observation.firings.matrix(np.arange(observation.firings.d_sae), positions)
    values.data = np.ones(len(values.data), dtype=np.int32)
    jaccards, nearest = nearest_by_jaccard(values.T.tocsr(), count)
    return Neighbours(nearest, jaccards)

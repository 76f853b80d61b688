"""Which features of two dictionaries are the same, and the map of both."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vsae_lightning.analysis.embedding import tsne
from vsae_lightning.analysis.observation import Observation
from vsae_lightning.errors import InputError, require_at_least
from vsae_lightning.evaluation.stability import SHARED
from vsae_lightning.metrics.directions import nearest_cosines
from vsae_lightning.metrics.matching import Pairs, match_directions

FLOOR = 0.3  # of two random directions in 256 dimensions one in a million is more alike


@dataclass(frozen=True)
class Comparison:
    """How two dictionaries are compared.

    Args:
        threshold: From which cosine of their decoder rows on two features are the same.
        map_features: Of each dictionary no more are on the map of both; drawn at random.

    Raises:
        InputError: A threshold that is not above 0.3, below which no pairs are formed, or too small a map.
    """

    threshold: float = SHARED
    map_features: int = 8192

    def __post_init__(self) -> None:
        if not FLOOR < self.threshold <= 1:
            raise InputError(f"comparison.threshold is {self.threshold}; it must be above {FLOOR}, and 1 at most.")
        require_at_least(2, **{"comparison.map_features": self.map_features})


class Living(NamedTuple):
    """The features of one dictionary that fire in the text.

    Attributes:
        observation: Of all its features.
        features: Which ones fire, rising.
        rows: Their decoder rows, brought to length 1.
        best: The largest cosine of each with a living feature of the other dictionary.
    """

    observation: Observation
    features: Int[np.ndarray, " living"]
    rows: Float[Tensor, "living d_in"]
    best: Float[np.ndarray, " living"]

    def only(self, threshold: float) -> tuple[Int[np.ndarray, " some"], Float[np.ndarray, " some"]]:
        """The features that the other has not, and their `best`: all below the threshold, the lowest first."""
        order = np.argsort(self.best, kind="stable")
        strange = order[self.best[order] < threshold]
        return self.features[strange], self.best[strange]


class JointMap(NamedTuple):
    """One embedding of two dictionaries.

    Attributes:
        mine: Which features of one are on it.
        other: Which of the other.
        places: Of these, one after the other.
    """

    mine: Int[np.ndarray, " mine"]
    other: Int[np.ndarray, " other"]
    places: Float[np.ndarray, "mine_and_other 2"]


class Compared(NamedTuple):
    """Two dictionaries, feature by feature.

    Attributes:
        mine: One of them.
        other: The other.
        pairs: Of features of one (a) and of the other (b), by falling cosine; all above 0.3.
        joint: The map of both.
        threshold: From which cosine on two features are the same.
    """

    mine: Living
    other: Living
    pairs: Pairs
    joint: JointMap
    threshold: float


def compare(mine: Observation, other: Observation, wanted: Comparison) -> Compared:
    """Match the features that fire, by `match_directions` on their decoder rows, and map them.

    Raises:
        InputError: Of one of them no feature fires.
    """
    features = [_living(one) for one in (mine, other)]
    rows = [_rows(one, which) for one, which in zip((mine, other), features, strict=True)]
    best = [cosines.double().cpu().numpy() for cosines in nearest_cosines(rows[0], rows[1])]
    found = match_directions(rows[0], rows[1], FLOOR)
    order = np.argsort(-found.cosine, kind="stable")
    pairs = Pairs(features[0][found.a[order]], features[1][found.b[order]], found.cosine[order])
    both = [Living(*one) for one in zip((mine, other), features, rows, best, strict=True)]
    return Compared(both[0], both[1], pairs, joint_map(both[0], both[1], wanted.map_features), wanted.threshold)


def joint_map(mine: Living, other: Living, most: int, seed: int = 0) -> JointMap:
    """t-SNE by cosine of the decoder rows of both together, of each no more than `most`, drawn at random."""
    chance = np.random.default_rng(seed)
    shown = [
        np.sort(chance.choice(len(one.features), min(most, len(one.features)), replace=False)) for one in (mine, other)
    ]
    rows = [one.rows.cpu().numpy()[places] for one, places in zip((mine, other), shown, strict=True)]
    return JointMap(mine.features[shown[0]], other.features[shown[1]], tsne(np.concatenate(rows), metric="cosine"))


def _living(observation: Observation) -> Int[np.ndarray, " living"]:
    living = np.flatnonzero(observation.firings.counts)
    if len(living) < 2:
        raise InputError(f"against: fewer than two features of {observation.subject.name} fire in the text.")
    return living


def _rows(observation: Observation, features: Int[np.ndarray, " living"]) -> Float[Tensor, "living d_in"]:
    return F.normalize(observation.subject.autoencoder.W_dec.detach()[features].float(), dim=-1)

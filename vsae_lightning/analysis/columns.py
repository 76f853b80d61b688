"""One number of every feature: what a table of features is sorted by, and a map coloured by."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from vsae_lightning.analysis.neighbours import Neighbours
from vsae_lightning.analysis.observation import Observation
from vsae_lightning.analysis.posterior import Posteriors


@dataclass(frozen=True)
class Column:
    """Values of all features.

    Attributes:
        key: In the data.
        name: For a reader.
        help: What it is, in one line.
        kind: How it is shown.
        values: NaN where it is not known.
    """

    key: str
    name: str
    help: str
    kind: Literal["number", "integer", "category"]
    values: Float[np.ndarray, " d_sae"] | Int[np.ndarray, " d_sae"]


def columns(observation: Observation, decoder: Neighbours) -> list[Column]:
    """Those that the pass over the text and the weights tell.

    Args:
        observation: What the autoencoder did.
        decoder: The nearest features by decoder row.
    """
    largest, mean = _strengths(observation)
    norms = observation.subject.autoencoder.W_dec.detach().norm(dim=-1).float().cpu().numpy()
    found = [
        Column("density", "density", "share of rows in which it fires", "number", observation.density),
        Column("max", "max", "its value where it is strongest", "number", largest),
        Column("mean", "mean", "its mean value where it fires", "number", mean),
        Column("decoder_norm", "decoder norm", "length of its decoder row", "number", norms),
    ]
    if decoder.features.shape[1]:
        what = "cosine of its decoder row with the nearest other"
        found += [
            Column("nearest_cosine", "nearest cosine", what, "number", decoder.likeness[:, 0]),
            Column("nearest", "nearest", "the feature with that decoder row", "integer", decoder.features[:, 0]),
        ]
    return found if observation.posteriors is None else [*found, *_of_posterior(observation.posteriors)]


def top_tokens(observation: Observation, count: int = 8) -> list[list[int]]:
    """Of every feature the tokens on which it fires, falling in its summed |value| there; no more than `count`."""
    return [_top_tokens(observation, latent, count) for latent in range(observation.firings.d_sae)]


def _top_tokens(observation: Observation, latent: int, count: int) -> list[int]:
    events = observation.firings.of(latent)
    tokens, which = np.unique(observation.excerpt.tokens.ravel()[events.positions], return_inverse=True)
    summed = np.bincount(which, np.abs(events.values), len(tokens))
    return tokens[np.argsort(-summed, kind="stable")[:count]].tolist()


def _strengths(observation: Observation) -> tuple[Float[np.ndarray, " d_sae"], Float[np.ndarray, " d_sae"]]:
    """The value of largest magnitude, and the mean value where it fires; NaN of one that never does."""
    largest, mean = np.full((2, observation.firings.d_sae), np.nan)
    for latent in np.flatnonzero(observation.firings.counts).tolist():
        values = observation.firings.of(latent).values
        largest[latent] = values[np.abs(values).argmax()]
        mean[latent] = values.mean(dtype=np.float64)
    return largest, mean


def _of_posterior(posteriors: Posteriors) -> list[Column]:
    changes = "share of its firings, with sampling or without, that are there with only one of both"
    found = [
        Column("sigma", "sigma", "mean standard deviation of its posterior", "number", posteriors.sigma),
        Column("changes", "changed by sampling", changes, "number", posteriors.changes),
    ]
    if posteriors.kl is not None:
        found.append(Column("kl", "KL", "mean KL of its posterior to N(0, 1), in nats", "number", posteriors.kl))
    return found

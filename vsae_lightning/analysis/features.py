"""All that is known of every feature of an autoencoder, but for its contexts."""

from collections.abc import Sequence
from dataclasses import dataclass

from vsae_lightning.analysis.columns import Column, columns, top_tokens
from vsae_lightning.analysis.lens import Lens, logit_lens
from vsae_lightning.analysis.neighbours import Neighbours, by_decoder, by_firing
from vsae_lightning.analysis.observation import Observation
from vsae_lightning.evaluation.evaluation import Track


@dataclass(frozen=True)
class Features:
    """Of one autoencoder.

    Attributes:
        observation: What it did on the excerpt.
        columns: A number each.
        top_tokens: Tokens on which each fires, the strongest first.
        lens: Tokens that each promotes and suppresses; None where a lens cannot tell.
        decoder: The nearest by decoder row.
        firing: The nearest by co-activation.
    """

    observation: Observation
    columns: list[Column]
    top_tokens: list[list[int]]
    lens: Lens | None
    decoder: Neighbours
    firing: Neighbours


def describe(observation: Observation, track: Track, extra: Sequence[Column] = ()) -> Features:
    """What its firings, its weights and its language model tell.

    Args:
        observation: What an autoencoder did.
        track: Shows how far it is.
        extra: Columns of another origin, behind the others.
    """
    decoder = by_decoder(observation)
    return Features(
        observation,
        [*columns(observation, decoder), *extra],
        top_tokens(observation),
        logit_lens(observation.subject, track),
        decoder,
        by_firing(observation),
    )

"""Windows anywhere in the text: where a feature does not fire is as telling as where it does."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from vsae_lightning.analysis.contexts import Contexts
from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.firings import Firings


class Windows(NamedTuple):
    """Pieces of the text around tokens chosen at random, cut as contexts are.

    Attributes:
        starts: Position of the first token of each; rising.
        ends: Position behind the last one.
        firing: Of every latent that fires in one or more of them: in which.
    """

    starts: Int[np.ndarray, " windows"]
    ends: Int[np.ndarray, " windows"]
    firing: dict[int, Int[np.ndarray, " some"]]


def random_windows(firings: Firings, excerpt: Excerpt, wanted: Contexts, count: int = 256, seed: int = 0) -> Windows:
    """Around different tokens, all whose activations were read alike likely; as many as there are, if fewer.

    Args:
        firings: Of an autoencoder in the text.
        excerpt: The text.
        wanted: How many tokens before and after the one in the middle belong to a window.
        count: How many windows.
        seed: Of the choice.
    """
    chosen = np.random.default_rng(seed).choice(excerpt.rows, min(count, excerpt.rows), replace=False, shuffle=False)
    starts, ends = excerpt.around(excerpt.positions(np.sort(chosen)), wanted.before, wanted.after)
    firing = {}
    for latent in np.flatnonzero(firings.counts).tolist():
        where = np.flatnonzero(_fires(firings.of(latent).positions, starts, ends))
        if len(where):
            firing[latent] = where
    return Windows(starts, ends, firing)


def _fires(
    positions: Int[np.ndarray, " events"], starts: Int[np.ndarray, " windows"], ends: Int[np.ndarray, " windows"]
) -> Bool[np.ndarray, " windows"]:
    """Whether one or more of the rising positions lie in each window."""
    return np.searchsorted(positions, ends) > np.searchsorted(positions, starts)

"""Where a feature fires, to look at: its strongest contexts, and samples from every strength down to the weakest."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.firings import Events
from vsae_lightning.errors import require_at_least


@dataclass(frozen=True)
class Contexts:
    """Which contexts of a feature are shown.

    Args:
        strongest: How many of the strongest.
        intervals: So many intervals of equal width over (0, strongest] are sampled from.
        per_interval: How many of each, at random.
        before: Tokens that are shown before the one where the feature fires; fewer at the start of a sequence.
        after: Tokens behind it.
        seed: Of the sample.

    Raises:
        InputError: A negative number, or none of the intervals.
    """

    strongest: int = 12
    intervals: int = 5
    per_interval: int = 3
    before: int = 12
    after: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("strongest", "per_interval", "before", "after"):
            require_at_least(0, **{f"contexts.{name}": getattr(self, name)})
        require_at_least(1, **{"contexts.intervals": self.intervals})


class Context(NamedTuple):
    """A few tokens around a firing.

    Attributes:
        interval: 0: among the strongest; 1, 2, ...: at random of an interval of strength, the strongest first.
        start: Position of the first token.
        end: Position behind the last one.
        peak: Position of the token where the feature fires.
        offsets: Where it fires in the window, counted from its start.
        values: How strongly, at these.
        sigma: Standard deviation of the posterior at the peak, where that is learned.
    """

    interval: int
    start: int
    end: int
    peak: int
    offsets: Int[np.ndarray, " firing"]
    values: Float[np.ndarray, " firing"]
    sigma: float | None


def contexts(events: Events, excerpt: Excerpt, wanted: Contexts, latent: int) -> list[Context]:
    """Of one feature; the largest |value| is the strongest, and of equal ones the first in the text.

    Args:
        events: Its firings.
        excerpt: What was read.
        wanted: Which ones.
        latent: Which feature, on which the random choice depends.
    """
    if not len(events.positions):
        return []
    strength = np.abs(events.values)
    order = np.argsort(-strength, kind="stable")
    rest = np.sort(order[wanted.strongest :])
    interval = _intervals(strength[rest], float(strength.max()), wanted.intervals)
    chance = np.random.default_rng([wanted.seed, latent])
    chosen = [order[: wanted.strongest]]
    for number in range(1, wanted.intervals + 1):
        inside = rest[interval == number]
        picked = chance.choice(inside, min(wanted.per_interval, len(inside)), replace=False)
        chosen.append(picked[np.argsort(-strength[picked], kind="stable")])
    intervals = np.repeat(np.arange(len(chosen)), [len(places) for places in chosen])
    return _windows(intervals, np.concatenate(chosen), events, excerpt, wanted)


def _intervals(strength: Float[np.ndarray, " n"], largest: float, count: int) -> Int[np.ndarray, " n"]:
    """Which of `count` intervals of equal width over (0, largest]; 1 is the strongest."""
    return count - np.clip(np.ceil(strength / largest * count).astype(int) - 1, 0, count - 1)


def _windows(
    intervals: Int[np.ndarray, " n"], places: Int[np.ndarray, " n"], events: Events, excerpt: Excerpt, wanted: Contexts
) -> list[Context]:
    """Around the events at `places`."""
    peaks = events.positions[places].astype(np.int64)
    starts, ends = excerpt.around(peaks, wanted.before, wanted.after)
    inside = np.searchsorted(events.positions, np.stack([starts, ends], 1))
    sigmas = [None] * len(places) if events.sigma is None else events.sigma[places].tolist()
    numbers = (column.tolist() for column in (intervals, starts, ends, peaks))
    found = []
    for interval, start, end, peak, (low, high), sigma in zip(*numbers, inside.tolist(), sigmas, strict=True):
        offsets = events.positions[low:high] - start
        found.append(Context(interval, start, end, peak, offsets, events.values[low:high], sigma))
    return found

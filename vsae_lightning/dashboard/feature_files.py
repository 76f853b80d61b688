"""The data of the table of features, and of the page of each."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vsae_lightning.analysis.columns import Column
from vsae_lightning.analysis.contexts import Context, Contexts, contexts
from vsae_lightning.analysis.features import Features
from vsae_lightning.analysis.firings import Events
from vsae_lightning.analysis.observation import Observation
from vsae_lightning.analysis.predicates import Predicate
from vsae_lightning.dashboard.data_files import Write
from vsae_lightning.evaluation.evaluation import Track

SHARD = 64
BINS = 20
STRETCH = 3.0  # an axis of a histogram is no longer than so many 99th percentiles
IN_TABLE = 5  # tokens promoted


def write_features(
    write: Write,
    features: Features,
    wanted: Contexts,
    track: Track,
    only: list[int] | None = None,
    predicates: Sequence[Predicate | None] | None = None,
    prefix: str = "",
) -> None:
    """Write `columns` and the shards `features/0000`, ...: 64 features each, without those that hold none of `only`.

    Args:
        write: Writes data.
        features: What is known of them.
        wanted: Which contexts are shown.
        track: Shows how far it is.
        only: The features that have pages; None: all.
        predicates: Of every feature the one that predicts it best, None where there is none.
        prefix: Before the names of the data.
    """
    write(f"{prefix}columns", _table(features))
    pages = _Pages(features, wanted, predicates)
    d_sae = features.observation.firings.d_sae
    shown = set(range(d_sae) if only is None else only)
    shards = sorted({feature // SHARD for feature in shown})
    for shard in track(shards, len(shards), "pages of features"):
        held = range(shard * SHARD, min(d_sae, (shard + 1) * SHARD))
        content = [pages.of(feature) if feature in shown else None for feature in held]
        write(f"{prefix}features/{shard:04d}", {"first": held.start, "features": content})


def _table(features: Features) -> dict[str, Any]:
    lens = features.lens
    return {
        "columns": [{**vars(column), "values": _values(column)} for column in features.columns],
        "top_tokens": features.top_tokens,
        "promoted": [[] for _ in features.top_tokens] if lens is None else lens.promoted[:, :IN_TABLE],
    }


def _values(column: Column) -> Any:
    """Counts of tokens and numbers of features are not rounded."""
    if column.kind != "integer":
        return column.values
    return [None if math.isnan(value) else int(value) for value in column.values.tolist()]


class _Pages:
    def __init__(self, features: Features, wanted: Contexts, predicates: Sequence[Predicate | None] | None) -> None:
        self.features = features
        self.wanted = wanted
        self.predicates = predicates

    def of(self, feature: int) -> dict[str, Any]:
        """All that the page of a feature shows; lists are empty of one that never fires."""
        observation = self.features.observation
        events = observation.firings.of(feature)
        chosen = contexts(events, observation.excerpt, self.wanted, feature)
        return {
            "feature": feature,
            "histogram": _histogram(events),
            "intervals": _intervals(events, self.wanted),
            "contexts": [_context(context, observation) for context in chosen],
            **self._lens(feature),
            "near_decoder": self.features.decoder.of(feature),
            "near_firing": self.features.firing.of(feature),
            "predicate": self._predicate(feature),
        }

    def _predicate(self, feature: int) -> dict[str, Any] | None:
        found = None if self.predicates is None else self.predicates[feature]
        return None if found is None else found._asdict()

    def _lens(self, feature: int) -> dict[str, list[tuple[int, float]]]:
        lens = self.features.lens
        if lens is None:
            return {"promoted": [], "suppressed": []}
        return {
            "promoted": _pairs(lens.promoted[feature], lens.promoted_logits[feature]),
            "suppressed": _pairs(lens.suppressed[feature], lens.suppressed_logits[feature]),
        }


def _histogram(events: Events) -> dict[str, Any] | None:
    """Histogram of the values where the latent fires, from 0 to the largest; from the lowest for signed latents.

    Where a few values are so large that all others would be one bar, the axis ends at `STRETCH` times the 99th
    percentile of |value|. The bars at its ends count the values beyond too; `beyond` has their number, and the largest.
    """
    values = events.values
    if not len(values):
        return None
    strength = np.abs(values)
    end = STRETCH * float(np.quantile(strength, 0.99))
    ends = min(0.0, max(-end, float(values.min()))), max(0.0, min(end, float(values.max())))
    counts, edges = np.histogram(np.clip(values, *ends), BINS, ends)
    beyond = int((strength > end).sum())
    cut = {"beyond": {"count": beyond, "largest": float(strength.max())}} if beyond else {}
    return {"edges": edges, "counts": counts, **cut}


def _intervals(events: Events, wanted: Contexts) -> list[dict[str, Any]]:
    """Those that `Context.interval` counts; of signed latents they are of |value|."""
    strength = np.sort(np.abs(events.values))[::-1].astype(float)
    if not len(strength):
        return []
    top, count = float(strength[0]), wanted.intervals
    strongest = {"name": "strongest", "from": float(strength[: max(1, wanted.strongest)][-1]), "to": top}
    others = [
        {"name": f"{number} of {count}", "from": top * (number - 1) / count, "to": top * number / count}
        for number in range(count, 0, -1)
    ]
    return [strongest, *others]


def _context(context: Context, observation: Observation) -> dict[str, Any]:
    excerpt = observation.excerpt
    held_out = context.peak // excerpt.context_length < excerpt.held_out
    return {
        "interval": context.interval,
        "tokens": excerpt.tokens.ravel()[context.start : context.end].tolist(),
        "at": context.peak - context.start,
        "values": _pairs(context.offsets, context.values),
        "position": context.peak,
        "held_out": held_out if observation.own_text else None,
        "sigma": context.sigma,
    }


def _pairs(numbers: np.ndarray, values: np.ndarray) -> list[tuple[int, float]]:
    return list(zip(numbers.tolist(), values.tolist(), strict=True))

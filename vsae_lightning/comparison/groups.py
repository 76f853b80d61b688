"""Autoencoders that differ in chance alone are one group: its name, and the mean and spread of its seeds."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vsae_lightning.comparison.curves import CURVES
from vsae_lightning.comparison.duplicates import alike, once
from vsae_lightning.comparison.gather import Entry
from vsae_lightning.comparison.published import SOURCE, published
from vsae_lightning.comparison.settings import Settings, printable, short_names
from vsae_lightning.comparison.sources import SOURCES


class Value(NamedTuple):
    """A quantity over the seeds that have it.

    Attributes:
        mean: Over them.
        std: Their standard deviation, with n - 1 in the denominator; None of a single one.
        values: Of each seed.
        source: Where they come from, the same for all.
    """

    mean: float
    std: float | None
    values: tuple[float, ...]
    source: str


class Point(NamedTuple):
    """A curve at so many tokens: the mean of the seeds, and their standard deviation as of `Value`."""

    tokens: int
    mean: float
    std: float | None


@dataclass(frozen=True)
class Group:
    """One row.

    Attributes:
        name: Short: the class, and what tells it from others of its class.
        family: Of groups that differ in k alone, which are one line of a plot over L0.
        members: The names of its autoencoders.
        seeds: Of each.
        settings: Without seeds.
        values: By quantity.
        curves: By metric, over tokens.
        nominal_l0: The k of a published autoencoder, whose L0 is not known.
        is_published: From the paper.
        notes: What of its autoencoders was left out.
    """

    name: str
    family: str
    members: tuple[str, ...]
    seeds: tuple[Any, ...]
    settings: Settings
    values: dict[str, Value]
    curves: dict[str, list[Point]] = field(default_factory=dict)
    nominal_l0: float | None = None
    is_published: bool = False
    notes: tuple[str, ...] = ()


def group(entries: Sequence[Entry]) -> list[Group]:
    """One group for every settings, in the order of the first of each."""
    groups = alike(entries)
    names = short_names([several[0].settings for several in groups])
    taken = [name for name, _ in names]
    return [
        _group(*once(several), name, family, distinct=taken.count(name) == 1)
        for several, (name, family) in zip(groups, names, strict=True)
    ]


def of_the_paper() -> list[Group]:
    """The autoencoders of the paper, a group each, of one seed."""
    return [
        Group(
            name=f"paper {one.kind} k={one.k}",
            family=f"paper {one.kind}",
            members=(SOURCE,),
            seeds=(),
            settings={},
            values={key: Value(value, None, (value,), SOURCE) for key, value in one.values.items()},
            nominal_l0=float(one.k),
            is_published=True,
        )
        for one in published()
    ]


def _group(entries: Sequence[Entry], told: Sequence[str], name: str, family: str, distinct: bool) -> Group:
    """`distinct`: no other group has this name; else that of its first run is added."""
    suffix = "" if distinct else f" ({entries[0].name})"
    quantities = dict.fromkeys(key for entry in entries for key in entry.values)
    return Group(
        name=printable(name + suffix),
        family=printable(family + suffix),
        members=tuple(entry.name for entry in entries),
        seeds=tuple(entry.seeds for entry in entries),
        settings=entries[0].settings,
        values={key: _value(entries, key) for key in quantities},
        curves={key: curve for key in CURVES if (curve := _curve(entries, key))},
        notes=(*told, *(f"{entry.name}: {note}" for entry in entries for note in entry.notes)),
    )


def _value(entries: Sequence[Entry], key: str) -> Value:
    """From one source for all: that which most of them have, of these the first."""
    by_source = {
        source: [e.values[key][source] for e in entries if source in e.values.get(key, {})] for source in SOURCES
    }
    source = max(SOURCES, key=lambda source: len(by_source[source]))
    values = by_source[source]
    return Value(*_mean_and_std(values), tuple(values), source)


def _curve(entries: Sequence[Entry], key: str) -> list[Point]:
    """Where all that have the curve have a value."""
    curves = [entry.curves[key] for entry in entries if key in entry.curves]
    common = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    return [Point(tokens, *_mean_and_std([curve[tokens] for curve in curves])) for tokens in common]


def _mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None

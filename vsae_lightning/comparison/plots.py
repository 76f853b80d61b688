"""What is drawn, before it is drawn: one quantity a plot, a line for every group, the same look in all plots."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from vsae_lightning.comparison.groups import Group
from vsae_lightning.comparison.published import SOURCE
from vsae_lightning.comparison.quantities import (
    CORE,
    SCR,
    THRESHOLDS,
    TPP,
    TPP_INTENDED,
    TPP_UNINTENDED,
    Quantity,
)

# Of Okabe and Ito 2008, which the colour-blind tell apart; black and grey are for what is published.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREYS = ("#000000", "#767676")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
MAX_POINTS = 300
BY_KEY = {quantity.key: quantity for quantity in CORE}
OVER_L0 = tuple(
    BY_KEY[key] for key in ("explained_variance", "explained_variance_saebench", "ce_loss_score", "alive_fraction")
)
OVER_N: tuple[tuple[str, str, tuple[Quantity, ...]], ...] = (
    ("scr", "Spurious correlation removal", SCR),
    ("tpp", "Targeted probe perturbation", TPP),
    ("tpp_intended", "Targeted probe perturbation, intended effect", TPP_INTENDED),
    ("tpp_unintended", "Targeted probe perturbation, unintended effect", TPP_UNINTENDED),
)
OVER_TOKENS = {
    "explained_variance": "explained variance in training, fraction",
    "l0": "L0 in training, active latents per token",
    "dead_fraction": "dead latents in training, fraction",
}
STEMS = (
    *(f"l0_{quantity.key}" for quantity in OVER_L0),
    *(stem for stem, _, _ in OVER_N),
    *(f"training_{key}" for key in OVER_TOKENS),
)


class Mark(NamedTuple):
    """A point, and its spread over seeds; `note` says what it is when pointed at."""

    x: float
    y: float
    x_std: float | None
    y_std: float | None
    note: str


class Look(NamedTuple):
    """Colour and marker; what is published is dashed and hollow."""

    colour: str
    marker: str
    is_published: bool


class Series(NamedTuple):
    """One line."""

    name: str
    look: Look
    marks: list[Mark]


class Plot(NamedTuple):
    """One picture and one page.

    Attributes:
        stem: Of its files.
        title: Above it.
        x_title: With the unit.
        y_title: With the unit.
        series: Lines.
        ticks: Of a logarithmic x axis; of another, none.
        is_curve: Too many points to mark each, and the spread is a band.
    """

    stem: str
    title: str
    x_title: str
    y_title: str
    series: list[Series]
    ticks: tuple[float, ...]
    is_curve: bool

    @property
    def x_limits(self) -> tuple[float, float]:
        """The ends of the x axis, in its units."""
        xs = [edge for line in self.series for mark in line.marks for edge in _edges(mark.x, mark.x_std)]
        if self.is_curve:
            return 0.0, 1.05 * max(xs)
        if not self.ticks:
            return _padded(xs, least=0.05 * max(map(abs, xs)))
        low, high = _padded([math.log10(x) for x in xs if x > 0])
        return 10**low, 10**high

    @property
    def y_limits(self) -> tuple[float, float]:
        """The ends of the y axis."""
        return _padded([edge for line in self.series for mark in line.marks for edge in _edges(mark.y, mark.y_std)])

    @property
    def legend(self) -> str:
        """What stands above the names of the lines: where published numbers are from."""
        return f"paper: {SOURCE}" if any(line.look.is_published for line in self.series) else ""

    def fractions(self, mark: Mark) -> tuple[float, float]:
        """Where a point is, from the lower left corner of the axes to the upper right."""
        (left, right), (low, high), x = self.x_limits, self.y_limits, mark.x
        if self.ticks:
            left, right, x = math.log10(left), math.log10(right), math.log10(x)
        return (x - left) / (right - left), (mark.y - low) / (high - low)


def plots(groups: Sequence[Group]) -> list[Plot]:
    """Every plot that the groups have anything for."""
    looks = _looks(groups)
    drawn = [_over_l0(groups, looks, quantity) for quantity in OVER_L0]
    drawn += [_over_n(groups, looks, *of_n) for of_n in OVER_N]
    drawn += [_over_tokens(groups, looks, key, title) for key, title in OVER_TOKENS.items()]
    return [plot for plot in drawn if plot.series]


def label_places(plot: Plot, gap: float = 0.065) -> list[tuple[float, float]]:
    """Where the label of each line goes, in fractions of the axes: beside its last point, apart from each other.

    Lines that end near the right edge have theirs beyond it.
    """
    ends = [plot.fractions(line.marks[-1]) for line in plot.series]
    columns = [1.03 if x > 0.8 else x + 0.03 for x, _ in ends]
    places = [0.0] * len(ends)
    for column in {round(x, 1) for x in columns}:
        inside = [index for index, x in enumerate(columns) if round(x, 1) == column]
        for index, y in zip(inside, _spread([ends[index][1] for index in inside], gap), strict=True):
            places[index] = y
    return list(zip(columns, places, strict=True))


def _spread(wanted: Sequence[float], gap: float) -> list[float]:
    """As near to what is wanted as leaves a gap between any two, within 0 and 1."""
    gap = min(gap, 1 / max(1, len(wanted) - 1))
    places, order = [0.0] * len(wanted), sorted(range(len(wanted)), key=wanted.__getitem__)
    floor = 0.0
    for index in order:
        places[index] = max(wanted[index], floor)
        floor = places[index] + gap
    ceiling = 1.0
    for index in reversed(order):
        places[index] = min(places[index], ceiling)
        ceiling = places[index] - gap
    return places


def _looks(groups: Sequence[Group]) -> dict[str, Look]:
    """By the name of a group, and by its family, which looks like the first of its groups."""
    looks: dict[str, Look] = {}
    own = [group for group in groups if not group.is_published]
    published = [group for group in groups if group.is_published]
    families = list(dict.fromkeys(group.family for group in published))
    for index, group in enumerate(own):
        looks[group.name] = Look(COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], False)
    for index, group in enumerate(published):
        grey = GREYS[families.index(group.family) % len(GREYS)]
        looks[group.name] = Look(grey, MARKERS[index % len(MARKERS)], True)
    for group in groups:
        looks.setdefault(group.family, looks[group.name])
    return looks


def _over_l0(groups: Sequence[Group], looks: dict[str, Look], quantity: Quantity) -> Plot:
    families: dict[str, list[Mark]] = {}
    for group in groups:
        l0, value = group.values.get("l0"), group.values.get(quantity.key)
        x = l0.mean if l0 else group.nominal_l0
        if value and x is not None:
            mark = Mark(x, value.mean, l0.std if l0 else None, value.std, group.name)
            families.setdefault(group.family, []).append(mark)
    series = [Series(name, looks[name], sorted(marks)) for name, marks in families.items()]
    xs = [mark.x for line in series for mark in line.marks]
    is_wide = bool(xs) and min(xs) > 0 and max(xs) > 3 * min(xs)
    ticks = _apart(xs) if is_wide else ()
    return Plot(f"l0_{quantity.key}", _title(quantity), BY_KEY["l0"].axis, quantity.axis, series, ticks, False)


def _over_n(
    groups: Sequence[Group], looks: dict[str, Look], stem: str, title: str, quantities: Sequence[Quantity]
) -> Plot:
    series = []
    for group in groups:
        found = [(n, group.values.get(q.key)) for n, q in zip(THRESHOLDS, quantities, strict=True)]
        marks = [Mark(n, value.mean, None, value.std, group.name) for n, value in found if value]
        if marks:
            series.append(Series(group.name, looks[group.name], marks))
    ticks = tuple(float(n) for n in THRESHOLDS)
    return Plot(stem, title, "n, latents ablated", quantities[0].axis, series, ticks, False)


def _over_tokens(groups: Sequence[Group], looks: dict[str, Look], key: str, y_title: str) -> Plot:
    series = []
    for group in groups:
        points = group.curves.get(key, [])
        step = math.ceil(len(points) / MAX_POINTS) or 1
        kept = points[::-step][::-1]  # the last is one of them
        marks = [Mark(point.tokens, point.mean, None, point.std, group.name) for point in kept]
        if marks:
            series.append(Series(group.name, looks[group.name], marks))
    title = f"Training: {y_title.partition(' in ')[0]}"
    return Plot(f"training_{key}", title, "tokens seen", y_title, series, (), True)


def _title(quantity: Quantity) -> str:
    what = re.split(r"[,(]", quantity.axis)[0].strip()
    return f"{what[0].upper()}{what[1:]} against sparsity"


def _edges(value: float, std: float | None) -> tuple[float, float]:
    return value - (std or 0.0), value + (std or 0.0)


def _padded(values: Sequence[float], least: float = 0.0) -> tuple[float, float]:
    """Their ends with a margin, of at least so much; ends that are apart where the values are not."""
    low, high = min(values), max(values)
    margin = max(0.06 * (high - low), least) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin


def _apart(values: Sequence[float]) -> tuple[float, ...]:
    """Whole numbers among them, each at least a quarter more than the one before, so that their digits do not touch."""
    ticks: list[float] = []
    for value in sorted({float(round(value)) for value in values}):
        if value > 0 and (not ticks or value >= 1.25 * ticks[-1]):
            ticks.append(value)
    return tuple(ticks)

"""Warnings about numbers that must not be compared as they are: another L0, other rows, other text."""

from collections.abc import Sequence
from typing import Any

from vsae_lightning.comparison.groups import Group
from vsae_lightning.comparison.settings import Settings, identity
from vsae_lightning.interop.public import public_value

WITH_TARGET = ("TopK", "BatchTopK", "ProbabilisticTopK")
TOLERANCE = 0.05
# What decides which text is read, and how it is cut.
TEXT = ("data.text", "data.context_length", "data.prepend_bos")


def cautions(groups: Sequence[Group]) -> list[str]:
    """One line for each warning, each with the group that it is about."""
    own = [group for group in groups if not group.is_published]
    told = [off_target(group.name, group.settings, group.values["l0"].values) for group in own if "l0" in group.values]
    told += [_left_out(group) for group in own]
    return [*(line for line in told if line is not None), *_texts(own)]


def off_target(name: str, settings: Settings, l0: Sequence[float]) -> str | None:
    """A warning where a held-out L0 is more than 5 % off the k of the sparsifier; None where all are near.

    Args:
        name: What has this L0.
        settings: Of its run, by dotted name.
        l0: One value for each seed.
    """
    target = target_l0(settings)
    if target is None or not l0:
        return None
    farthest = max(l0, key=lambda value: abs(value - target))
    off = farthest / target - 1
    if abs(off) <= TOLERANCE:
        return None
    return (
        f"warning: {name}: held-out L0 is {farthest:.1f}, {abs(off):.0%} {'above' if off > 0 else 'below'} "
        f"k = {target:g}; compare its other numbers with those of an autoencoder of equal L0"
    )


def target_l0(settings: Settings) -> float | None:
    """The k of TopK, BatchTopK or ProbabilisticTopK, in a Matryoshka too; None where no L0 is aimed at."""
    place = "sparsifier.sparsifier" if settings.get("sparsifier") == "Matryoshka" else "sparsifier"
    k: Any = settings.get(f"{place}.k")
    is_number = isinstance(k, int | float) and not isinstance(k, bool) and k > 0
    return float(k) if settings.get(place) in WITH_TARGET and is_number else None


def _left_out(group: Group) -> str | None:
    """Which rows the metrics of a group leave out, and what the explained variance is with them."""
    found = group.values.get("left_out_fraction"), group.values.get("explained_variance_all_rows")
    if found[0] is None or found[1] is None:
        return None
    return (
        f"{group.name}: metrics leave out {found[0].mean:.3%} of the rows, whose norm was too large for training "
        f"(data.max_norm_ratio); explained variance with them: {found[1].mean:.4f}"
    )


def _texts(groups: Sequence[Group]) -> list[str]:
    """A warning where groups were measured on different text: each on what its own training held out."""
    known = [group for group in groups if "data" in group.settings]
    texts = [{key: value for key, value in group.settings.items() if _is_of_text(key)} for group in known]
    if len({identity(text) for text in texts}) < 2:
        return []
    named = "; ".join(f"{group.name}: {_named(text)}" for group, text in zip(known, texts, strict=True))
    return [f"warning: each group is measured on the held-out part of its own text, and these differ: {named}"]


def _is_of_text(key: str) -> bool:
    return key in TEXT or key.startswith("data.text.")


def _named(text: dict[str, Any]) -> str:
    """The class of the text, and what it reads."""
    shown = {key.removeprefix("data."): value for key, value in public_value(text).items() if value is not None}
    return ", ".join(f"{key}={value}" for key, value in shown.items()) or "the bundled text"

"""Which entries of a comparison are one seed, and which differ in chance alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vsae_lightning.comparison.gather import Entry
from vsae_lightning.comparison.settings import identity


def alike(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Entries of equal settings together, in the order of the first of each.

    An export has the settings as they may be published, without folders: it is put beside the run whose settings
    are equal then, or else whose weights are.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.published is not None:
            groups.setdefault(identity(entry.settings), []).append(entry)
    for entry in entries:
        if entry.published is None:
            groups.setdefault(_place(entry, groups), []).append(entry)
    order = {id(entry): number for number, entry in enumerate(entries)}
    several = [sorted(group, key=lambda entry: order[id(entry)]) for group in groups.values()]
    return sorted(several, key=lambda group: order[id(group[0])])


def _place(export: Entry, groups: dict[str, list[Entry]]) -> str:
    """The key of the group that an export is of."""
    own = identity(export.settings)
    for key, group in groups.items():
        if any(entry.published is not None and identity(entry.published) == own for entry in group):
            return key
    shared = (key for key, group in groups.items() if any(_same_weights(export, entry) for entry in group))
    return next(shared, own)


def once(entries: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """Entries of equal settings, each seed once: a copy, a re-run and an export of a seed are that seed.

    Two entries are the same seed where their seeds are, or else their weights. The values of the first stand; what
    it lacks is taken from the others.

    Returns:
        The entries, and a line on each that was not counted.
    """
    kept: list[Entry] = []
    told = []
    for entry in entries:
        found = next(((place, why) for place, other in enumerate(kept) if (why := _shared(entry, other))), None)
        if found is None:
            kept.append(entry)
            continue
        place, why = found
        first = kept[place]
        keys = dict.fromkeys([*first.values, *entry.values])
        values = {key: entry.values.get(key, {}) | first.values.get(key, {}) for key in keys}
        kept[place] = replace(first, values=values, curves=entry.curves | first.curves)
        told.append(f"{entry.name} and {first.name} are one seed (they share {why}): counted once")
    return kept, told


def _shared(one: Entry, other: Entry) -> str:
    """What makes two entries of equal settings one seed; empty where nothing does."""
    if one.seeds == other.seeds and _is_known(one.seeds):
        return "settings and seeds"
    return "weights" if _same_weights(one, other) else ""


def _same_weights(one: Entry, other: Entry) -> bool:
    digest = one.digest()
    return digest is not None and digest == other.digest()


def _is_known(seeds: tuple[Any, ...]) -> bool:
    """Whether the seeds of everything, of the module and of the data decide the run."""
    return len(seeds) == 3 and (seeds[0] is not None or None not in seeds[1:])

"""The table of a comparison: on the terminal, as Markdown, as JSON; a row per group, a part per kind of quantity."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from vsae_lightning.comparison.cautions import cautions
from vsae_lightning.comparison.groups import Group, Value
from vsae_lightning.comparison.quantities import (
    ALL_ROWS,
    CORE,
    FEATURES,
    PROBING,
    READINGS,
    SCR,
    TPP,
    TPP_INTENDED,
    TPP_UNINTENDED,
    WITH_HEADLINE,
    Quantity,
    headline,
)
from vsae_lightning.comparison.settings import differing, printable
from vsae_lightning.comparison.sources import STAGES
from vsae_lightning.interop.public import public_value

PARTS: tuple[tuple[str, tuple[Quantity, ...]], ...] = (
    ("reconstruction", CORE),
    ("sparse probing", PROBING),
    ("absorption and meta-SAE", FEATURES),
    ("SCR", SCR),
    ("TPP, total", TPP),
    ("TPP, intended", TPP_INTENDED),
    ("TPP, unintended", TPP_UNINTENDED),
)
OPTIONAL = (("rows left out of training", ALL_ROWS), ("at the mean recalibrated, and by samples", READINGS))
OF_VALIDATION = {source for source, _, stage in STAGES if stage == "val"}
MARK = "*"
LEGEND = f"{MARK} of the validation split, not of all held-out text"
MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|~$&"})


class Part(NamedTuple):
    """Some columns of the table; the first names the row."""

    title: str
    header: list[str]
    rows: list[list[str]]


def parts(groups: Sequence[Group]) -> list[Part]:
    """The table, each cell on one line; a part is left out, but for the first, where no group has anything of it."""
    own = [(type_id, _headlines(groups, type_id)) for type_id in WITH_HEADLINE]
    chosen = [
        (title, quantities)
        for title, quantities in (PARTS[0], *OPTIONAL, *PARTS[1:], *own)
        if quantities is CORE or any(_has_any(group, quantities) for group in groups)
    ]
    found = [
        Part(
            title,
            ["group", "n", *(quantity.title for quantity in quantities)],
            [_cells(group, quantities) for group in groups if not group.is_published or _has_any(group, quantities)],
        )
        for title, quantities in chosen
    ]
    several = [*found, *_differences([group for group in groups if not group.is_published])]
    return [Part(part.title, _printable(part.header), [*map(_printable, part.rows)]) for part in several]


def _printable(cells: Sequence[str]) -> list[str]:
    return [printable(text) for text in cells]


def _cells(group: Group, quantities: Sequence[Quantity]) -> list[str]:
    return [group.name, str(len(group.members)), *(cell(group, quantity.key) for quantity in quantities)]


def _has_any(group: Group, quantities: Sequence[Quantity]) -> bool:
    return any(quantity.key in group.values for quantity in quantities)


def _differences(groups: Sequence[Group]) -> list[Part]:
    """A row per setting, since there can be many; the first column names it, and not a group."""
    names = differing([group.settings for group in groups])
    settings = [public_value(group.settings) for group in groups]
    rows = [[name, *(str(known.get(name, "-")) for known in settings)] for name in names]
    return [Part("settings that differ", ["setting", *(group.name for group in groups)], rows)] if rows else []


def cell(group: Group, key: str) -> str:
    """`mean ± standard deviation`, of a single seed the number alone, and how many seeds where not all; or a dash."""
    value = group.values.get(key)
    if value is None:
        return "-"
    spread = "" if value.std is None else f" ± {_number(value.std)}"
    count = f" (n={len(value.values)})" if len(value.values) < len(group.members) else ""
    return f"{_number(value.mean)}{spread}{count}{MARK * (value.source in OF_VALIDATION)}"


def notes(groups: Sequence[Group]) -> list[str]:
    """What one must know to read the numbers."""
    told = []
    if any(len(group.members) > 1 for group in groups):
        told.append("mean ± standard deviation over n seeds, with n - 1 in its denominator")
    if any(value.source in OF_VALIDATION for group in groups for value in group.values.values()):
        told.append(LEGEND)
    told += cautions(groups)
    return [*told, *(note for group in groups for note in group.notes)]


def rich_tables(found: Sequence[Part]) -> list[Table]:
    """For the terminal; nothing in a name is read as markup."""
    tables = []
    for part in found:
        table = Table(title=part.title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
        for column, name in enumerate(part.header):
            table.add_column(Text(name), justify="right" if column else "left", overflow="fold")
        for row in part.rows:
            table.add_row(*(Text(text) for text in row))
        tables.append(table)
    return tables


def markdown(found: Sequence[Part], told: Sequence[str]) -> str:
    """For a document; nothing in a name is read as markup, and nothing in a note is of this machine."""
    lines = ["# Comparison", ""]
    for part in found:
        lines += [f"## {part.title}", "", _row(part.header), _rule(part.header), *map(_row, part.rows), ""]
    return "\n".join([*lines, *(f"- {note.translate(MARKDOWN)}" for note in public_value(told))]) + "\n"


def as_json(groups: Sequence[Group], told: Sequence[str], commands: Sequence[str]) -> dict[str, Any]:
    """All of it, every seed's value and its source too, but nothing of this machine."""
    return {
        "groups": [_group(group) for group in groups],
        "notes": public_value(told),
        "missing": public_value(commands),
    }


def _group(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "runs": list(group.members),
        "seeds": [list(seeds) for seeds in group.seeds],
        "published": group.is_published,
        "settings": public_value(group.settings),
        "metrics": {key: _value(value) for key, value in group.values.items()},
    }


def _value(value: Value) -> dict[str, Any]:
    return {**value._asdict(), "values": list(value.values), "n": len(value.values)}


def _headlines(groups: Sequence[Group], type_id: str) -> tuple[Quantity, ...]:
    """What the groups have of an evaluation of our own, in the order of its headline."""
    keys = dict.fromkeys(key for group in groups for key in group.values if key.startswith(f"{type_id}/"))
    return tuple(headline(type_id, key.partition("/")[2]) for key in keys)


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(text.translate(MARKDOWN) for text in cells)} |"


def _rule(header: Sequence[str]) -> str:
    return f"|{'|'.join(['---', *('---:' for _ in header[1:])])}|"

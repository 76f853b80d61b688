"""Texts with labels of two kinds: the sets that ship in the package sae-probes, or files of the user's own."""

import csv
import io
import json
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow

from vsae_lightning.errors import InputError, did_you_mean

SUFFIXES = (".csv", ".csv.zst", ".jsonl", ".jsonl.zst", ".parquet")
TEXT_COLUMNS = ("prompt", "text")
LABEL_COLUMNS = ("target", "label")
INSTALL = "pip install --no-deps sae-probes==0.4.2"
Row = dict[str, Any]


class LabelledTexts(NamedTuple):
    """Texts, and to each a label.

    Attributes:
        texts: In the order of the file.
        labels: 0 for the first of the two values of the file in ascending order, 1 for the other.
    """

    texts: list[str]
    labels: list[int]


def labelled_names(folder: Path | None = None) -> list[str]:
    """The sets of two labels in sae-probes, in its order; or all those in `folder`.

    Raises:
        InputError: sae-probes is not installed, or `folder` holds no set.
    """
    if folder is None:
        rows = _csv(_of_sae_probes() / "probing_datasets_MASTER.csv.zst")
        return [
            Path(row["Dataset save name"]).name.removesuffix(".csv")
            for row in rows
            if row["Data type"] == "Binary Classification"
        ]
    found = sorted(_name(path) for path in folder.iterdir() if path.name.endswith(SUFFIXES)) if folder.is_dir() else []
    if not found:
        raise InputError(f"data: there is no labelled set in {str(folder)!r}; files are {', '.join(SUFFIXES)}.")
    return found


def read_labelled(name: str, folder: Path | None = None) -> LabelledTexts:
    """One set by its name: a file `NAME.csv`, .csv.zst, .jsonl, .jsonl.zst or .parquet.

    Its columns are `prompt` or `text`, and `target` or `label`.

    Args:
        folder: Where it is; None: in the installed package sae-probes, of which nothing is imported.

    Raises:
        InputError: There is no such set, it lacks a column, or its labels are not of two kinds.
    """
    place = folder if folder is not None else _of_sae_probes() / "cleaned_data"
    paths = [place / f"{name}{suffix}" for suffix in SUFFIXES if (place / f"{name}{suffix}").is_file()]
    if not paths:
        raise InputError(f"datasets: there is no labelled set {name!r}.{did_you_mean(name, labelled_names(folder))}")
    rows = list(_rows(paths[0]))
    texts = _column(paths[0], rows, TEXT_COLUMNS)
    values = [str(value) for value in _column(paths[0], rows, LABEL_COLUMNS)]
    if not all(isinstance(text, str) and text for text in texts):
        raise InputError(f"{paths[0]}: a text is missing.")
    kinds = sorted(set(values), key=_numbers_first)
    if len(kinds) != 2:
        raise InputError(f"{paths[0]}: there are {len(kinds)} different labels; there must be two.")
    return LabelledTexts(texts, [kinds.index(value) for value in values])


@cache
def _of_sae_probes() -> Path:
    found = find_spec("sae_probes")
    if found is None or found.origin is None:
        raise InputError(f"data: the labelled sets of sae-probes are not installed: {INSTALL}; or name a folder.")
    return Path(found.origin).parent / "data"


def _name(path: Path) -> str:
    return path.name.removesuffix(".zst").rpartition(".")[0]


def _rows(path: Path) -> Iterator[Row]:
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            yield from pyarrow.parquet.read_table(path).to_pylist()
        elif ".jsonl" in path.suffixes:
            yield from (json.loads(line) for line in _text(path) if line.strip())
        else:
            yield from _csv(path)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(1 << 24)
    return csv.DictReader(_text(path))


def _text(path: Path) -> io.TextIOWrapper:
    binary = pyarrow.input_stream(str(path), compression="zstd" if path.suffix == ".zst" else None)
    return io.TextIOWrapper(io.BytesIO(binary.read()), encoding="utf-8", newline="")


def _column(path: Path, rows: list[Row], names: tuple[str, ...]) -> list[Any]:
    for name in names:
        if rows and isinstance(rows[0], dict) and name in rows[0]:
            return [row.get(name) for row in rows]
    raise InputError(f"{path}: has no column {' or '.join(names)}.")


def _numbers_first(value: str) -> tuple[bool, float, str]:
    """Numbers by size, then words by the alphabet."""
    try:
        return (False, float(value), value)
    except ValueError:
        return (True, 0.0, value)

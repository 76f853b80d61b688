"""bias_in_bios and Amazon reviews, from the hub or a local copy."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vsae_lightning.data.hub import require_available
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.concept_groups import Row, Table

SUFFIXES = (".parquet", ".jsonl")
SPLITS = ("train", "test")


@dataclass(frozen=True)
class HubSet:
    """A data set of the hub as SAEBench uses it (sae_bench_utils/dataset_info.py, scr_and_tpp/eval_config.py).

    Attributes:
        name: SAEBench's name.
        hub: On the hub.
        columns: Of the text, the concept and the attribute.
        concepts: Values of the concept that are used; the first five are the classes of TPP.
        attributes: Values of the attribute, the positive one first.
    """

    name: str
    hub: str
    columns: tuple[str, str, str]
    concepts: Mapping[Any, str]
    attributes: Mapping[Any, str]
    pairs: tuple[tuple[str, str], ...]

    def table(self, splits: Mapping[str, Mapping[str, list[Any]]], origin: str) -> Table:
        """From the columns of both splits."""
        train, test = (self._rows(splits[split]) for split in SPLITS)
        attributes, classes = tuple(self.attributes.values()), tuple(self.concepts.values())[:5]
        return Table(self.name, train, test, attributes, self.pairs, classes, origin)

    def _rows(self, columns: Mapping[str, list[Any]]) -> list[Row]:
        rows = zip(*(columns[name] for name in self.columns), strict=True)
        return [
            Row(text, self.concepts[concept], self.attributes[attribute])
            for text, concept, attribute in rows
            if text and concept in self.concepts and attribute in self.attributes
        ]


HUB_SETS = (
    HubSet(
        "LabHC/bias_in_bios_class_set1",
        "LabHC/bias_in_bios",
        ("hard_text", "profession", "gender"),
        {0: "accountant", 1: "architect", 2: "attorney", 6: "dentist", 9: "filmmaker"}
        | {11: "journalist", 13: "nurse", 21: "professor", 22: "psychologist", 25: "surgeon", 26: "teacher"},
        {0: "male", 1: "female"},
        (("professor", "nurse"), ("architect", "journalist"), ("surgeon", "psychologist"), ("attorney", "teacher")),
    ),
    HubSet(
        "canrager/amazon_reviews_mcauley_1and5",
        "canrager/amazon_reviews_mcauley_1and5",
        ("text", "category", "rating"),
        {1: "Toys_and_Games", 2: "Cell_Phones_and_Accessories", 3: "Industrial_and_Scientific"}
        | {5: "Musical_Instruments", 6: "Electronics", 11: "Office_Products", 18: "Pet_Supplies"}
        | {24: "Books", 26: "CDs_and_Vinyl", 30: "Software"},
        {1.0: "1.0", 5.0: "5.0"},
        (
            ("Books", "CDs_and_Vinyl"),
            ("Software", "Electronics"),
            ("Pet_Supplies", "Office_Products"),
            ("Industrial_and_Scientific", "Toys_and_Games"),
        ),
    ),
)


@cache
def hub_tables(data: str | None) -> list[Table]:
    """bias_in_bios and Amazon reviews, as far as they are there.

    Args:
        data: A folder or a file; None: the hub, from which nothing is asked where it is out of reach.

    Raises:
        InputError: `data` holds neither, or what is there cannot be read.
    """
    if data is not None:
        return _local_tables(Path(data))
    return [
        source.table(_download(source), f"Hugging Face hub, {source.hub}")
        for source in HUB_SETS
        if _is_available(source.hub)
    ]


@cache
def _is_available(hub: str) -> bool:
    try:
        require_available(hub, "data", "dataset")
    except InputError:
        return False
    return True


def _download(source: HubSet) -> dict[str, dict[str, list[Any]]]:
    import datasets

    try:
        loaded = datasets.load_dataset(source.hub)
        return {split: {name: list(loaded[split][name]) for name in source.columns} for split in SPLITS}
    except (OSError, ValueError, RuntimeError, KeyError, datasets.exceptions.DatasetGenerationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"data: {source.hub!r} cannot be read: {reason}; or give data: sae-probes.") from None


def _local_tables(path: Path) -> list[Table]:
    paths = sorted(path.rglob("*")) if path.is_dir() else [path]
    files = [file for file in paths if file.suffix in SUFFIXES]
    columns = {file: _column_names(file) for file in files}
    tables = []
    for source in HUB_SETS:
        own = [file for file in files if set(source.columns) <= columns[file]]
        parts = {split: [file for file in own if split in file.name] for split in SPLITS}
        if all(parts.values()):
            splits = {split: _read(parts[split], source.columns) for split in SPLITS}
            tables.append(source.table(splits, f"local copy of {source.hub}: {path}"))
    if not tables:
        wanted = " or ".join(", ".join(source.columns) for source in HUB_SETS)
        raise InputError(
            f"data: {str(path)!r} has no {' or '.join(SUFFIXES)} files with 'train' and with 'test' in their names "
            f"and columns {wanted}; 'sae-probes' takes the texts of that package."
        )
    return tables


def _read(files: list[Path], columns: tuple[str, ...]) -> dict[str, list[Any]]:
    tables = [_arrow(file) for file in files]
    return {name: [value for table in tables for value in table[name].to_pylist()] for name in columns}


def _column_names(file: Path) -> set[str]:
    return set(_arrow(file).column_names)


@cache
def _arrow(file: Path) -> Any:
    import pyarrow
    import pyarrow.json
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(file) if file.suffix == ".parquet" else pyarrow.json.read_json(file)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(f"data: {file} cannot be read: {error}") from None

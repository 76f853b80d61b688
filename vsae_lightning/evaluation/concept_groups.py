"""Groups of texts that probes tell apart, chosen from a data set as SAEBench chooses them."""

from typing import Any, NamedTuple

import numpy as np

from vsae_lightning.errors import InputError

TextGroups = dict[str, list[str]]
# Every second group is what the one before it is told from.
ATTRIBUTE, CONCEPT, BIASED = "attribute", "concept", "biased"
CORRELATED = (ATTRIBUTE, "other attribute", CONCEPT, "other concept", BIASED, "other biased")


class Row(NamedTuple):
    """A text, what it is about, and what may be spuriously correlated with that."""

    text: str
    concept: str
    attribute: str


class Table(NamedTuple):
    """One data set.

    Attributes:
        name: As SAEBench calls it, or `sae-probes/` and a name.
        attributes: The two attributes of SCR, the positive one first; one that says nothing where there is none.
        pairs: Of concepts, for SCR, the positive one first.
        classes: Concepts, for TPP.
        origin: Where it comes from, in words.
    """

    name: str
    train: list[Row]
    test: list[Row]
    attributes: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    classes: tuple[str, ...]
    origin: str


class Concepts(NamedTuple):
    """What one set of probes is trained and tested on.

    Attributes:
        name: Of the data set, and in SCR of the two concepts.
        train: Texts by group; the groups in the order in which SAEBench goes through them.
        test: The same groups.
    """

    name: str
    train: TextGroups
    test: TextGroups

    def sizes(self) -> dict[str, Any]:
        """Texts in each group."""
        return {
            "train": {name: len(texts) for name, texts in self.train.items()},
            "test": {name: len(texts) for name, texts in self.test.items()},
        }


def correlated_concepts(table: Table, train_size: int, test_size: int, seed: int) -> list[Concepts]:
    """For SCR: of every pair of concepts three contrasts (SAEBench evals/scr_and_tpp/dataset_creation.py).

    Of m = size // 4 texts for each concept with each attribute: one attribute against the other, over both concepts;
    one concept against the other, over both attributes; and the first concept with the first attribute against the
    second with the second, 2 m of each: where the attribute is perfectly correlated with the concept. m is smaller
    where there are fewer texts, in a data set of sae-probes; SAEBench's own have enough for its sizes.

    Raises:
        InputError: There is no text of a concept with an attribute.
    """
    return [
        Concepts(
            f"{table.name}_scr_{pair[0]}_{pair[1]}",
            _correlated(table, table.train, pair, train_size // 4, seed),
            _correlated(table, table.test, pair, test_size // 4, seed),
        )
        for pair in table.pairs
    ]


def class_concepts(table: Table, train_size: int, test_size: int, seed: int) -> list[Concepts]:
    """For TPP: size // 2 texts of every class, as many of each attribute (SAEBench sae_bench_utils/dataset_utils.py).

    Fewer where there are fewer, the same of every class.

    Raises:
        InputError: There is no text of a class with an attribute.
    """
    train, test = (
        _classes(table, rows, size // 2 // len(table.attributes), seed)
        for rows, size in ((table.train, train_size), (table.test, test_size))
    )
    return [Concepts(f"{table.name}_tpp", train, test)]


def _correlated(table: Table, rows: list[Row], pair: tuple[str, str], wanted: int, seed: int) -> TextGroups:
    cells = [_texts(table, rows, concept, attribute) for concept in pair for attribute in table.attributes]
    both, first_only, second_only, neither = cells
    m = min(wanted, *map(len, cells), (len(both) - 1) // 2, (len(neither) - 1) // 2)
    if m < 1:
        raise InputError(f"data: {table.name} has too few texts of {pair[0]} and {pair[1]} with each attribute.")
    groups = [
        both[:m] + second_only[:m],
        first_only[:m] + neither[:m],
        both[:m] + first_only[:m],
        second_only[:m] + neither[:m],
        both[: 2 * m],
        neither[: 2 * m],
    ]
    rng = np.random.default_rng(seed)
    for group in groups:
        rng.shuffle(group)
    return dict(zip(CORRELATED, groups, strict=True))


def _classes(table: Table, rows: list[Row], wanted: int, seed: int) -> TextGroups:
    cells = {
        concept: [_texts(table, rows, concept, attribute) for attribute in table.attributes]
        for concept in table.classes
    }
    n = min(wanted, *(len(texts) for parts in cells.values() for texts in parts))
    if n < 1:
        raise InputError(f"data: {table.name} has no texts of one of {', '.join(table.classes)}.")
    return {concept: [text for texts in parts for text in _sample(texts, n, seed)] for concept, parts in cells.items()}


def _sample(texts: list[str], n: int, seed: int) -> list[str]:
    """As `DataFrame.sample(n, random_state=seed)` does."""
    return [texts[row] for row in np.random.RandomState(seed).choice(len(texts), n, replace=False)]


def _texts(table: Table, rows: list[Row], concept: str, attribute: str) -> list[str]:
    return [row.text for row in rows if row.concept == concept and row.attribute == attribute]

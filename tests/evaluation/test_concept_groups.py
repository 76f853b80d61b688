"""Which texts are in which group."""

import pytest

from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.concept_groups import Row, Table, class_concepts, correlated_concepts

CONCEPTS, ATTRIBUTES = ("nurse", "surgeon", "poet"), ("he", "she")


def table(count: int) -> Table:
    """So many texts, such as "nurse he 3", of every concept with every attribute."""
    rows = [Row(f"{c} {a} {n}", c, a) for n in range(count) for c in CONCEPTS for a in ATTRIBUTES]
    return Table("bios", rows, rows[::-1], ATTRIBUTES, (("nurse", "surgeon"),), CONCEPTS, "made up")


def kinds(texts: list[str]) -> dict[str, int]:
    found = [text.rpartition(" ")[0] for text in texts]
    return {kind: found.count(kind) for kind in dict.fromkeys(sorted(found))}


def test_groups_of_a_pair() -> None:
    (found,) = correlated_concepts(table(20), 32, 16, 42)
    assert found.name == "bios_scr_nurse_surgeon"
    assert {name: kinds(texts) for name, texts in found.train.items()} == {
        "attribute": {"nurse he": 8, "surgeon he": 8},
        "other attribute": {"nurse she": 8, "surgeon she": 8},
        "concept": {"nurse he": 8, "nurse she": 8},
        "other concept": {"surgeon he": 8, "surgeon she": 8},
        "biased": {"nurse he": 16},
        "other biased": {"surgeon she": 16},
    }
    assert {len(texts) for texts in found.test.values()} == {8}
    assert found.train["biased"] != sorted(found.train["biased"], key=lambda text: int(text.split()[-1]))
    assert correlated_concepts(table(20), 32, 16, 42) == [found]
    assert correlated_concepts(table(20), 32, 16, 43) != [found]


def test_fewer_texts_make_smaller_groups() -> None:
    """Of 20 texts of a kind, 9 + 9 leave at least one of the biased group's."""
    (found,) = correlated_concepts(table(20), 4000, 16, 42)
    assert {len(texts) for texts in found.train.values()} == {18}
    with pytest.raises(InputError, match="bios has too few texts of nurse and surgeon"):
        correlated_concepts(table(2), 32, 16, 42)


def test_groups_of_classes() -> None:
    (found,) = class_concepts(table(20), 32, 16, 42)
    assert {name: kinds(texts) for name, texts in found.train.items()} == {
        name: {f"{name} he": 8, f"{name} she": 8} for name in CONCEPTS
    }
    assert {len(set(texts)) for texts in found.test.values()} == {8}
    (fewer,) = class_concepts(table(3), 32, 16, 42)
    assert {len(texts) for texts in fewer.train.values()} == {6}

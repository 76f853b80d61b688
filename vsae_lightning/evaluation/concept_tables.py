"""Data sets of concepts: those of the hub that SAEBench uses, or what sae-probes has in their place."""

import re
from collections import defaultdict
from collections.abc import Iterable

from vsae_lightning.evaluation.concept_groups import Row, Table
from vsae_lightning.evaluation.hub_concepts import hub_tables
from vsae_lightning.evaluation.labelled import read_labelled

SAE_PROBES = "sae-probes"
# Of code, what a model sees of it at 128 tokens.
CODE_HEAD = 300
AGENCY = re.compile(r"\b(Reuters|AP|AFP)\b")
LICENCE = re.compile(r"licen[cs]e|copyright", re.IGNORECASE)
TOPICS = {"World": "161_agnews_0", "Sports": "162_agnews_1", "Business": "163_agnews_2"}
LANGUAGES = {"C": "158_code_C", "Python": "159_code_Python"}
OCCUPATIONS = {
    "journalist": "59_wikidata_occupation_isjournalist",
    "athlete": "60_wikidata_occupation_isathlete",
    "actor": "61_wikidata_occupation_isactor",
    "politician": "62_wikidata_occupation_ispolitician",
    "singer": "63_wikidata_occupation_issinger",
}


def correlated_tables(data: str | None, train_fraction: float) -> list[Table]:
    """Data sets with an attribute, for SCR.

    Of sae-probes, which has no set with two labels of enough texts: topics of AG News, where the attribute is that
    the text names a news agency; and programming languages, where it is that the code begins with a licence.

    Args:
        data: A folder or a file of those of the hub; "sae-probes"; None: the hub where it can be reached or has
            been, else sae-probes.
        train_fraction: Of the texts of sae-probes, which has no split of its own for each label.

    Raises:
        InputError: There is no data.
    """
    if data != SAE_PROBES and (tables := hub_tables(data)):
        return tables
    news = [Row(text, topic, _agency(text)) for topic, name in TOPICS.items() for text in _positives(name)]
    code = [Row(text, language, _licence(text)) for language, name in LANGUAGES.items() for text in _positives(name)]
    topics, languages = (("World", "Sports"), ("Business", "World")), (("C", "Python"),)
    return [
        _split("sae-probes/agnews_agency", news, train_fraction, ("agency", "no agency"), topics),
        _split("sae-probes/code_licence", code, train_fraction, ("licence", "no licence"), languages),
    ]


def class_tables(data: str | None, train_fraction: float) -> list[Table]:
    """Data sets of several classes, for TPP; arguments and errors are those of `correlated_tables`.

    Of sae-probes: texts about people of five occupations, and three topics of AG News.
    """
    if data != SAE_PROBES and (tables := hub_tables(data)):
        return tables
    groups = {"sae-probes/wikidata_occupation": OCCUPATIONS, "sae-probes/agnews": TOPICS}
    return [
        _split(group, [Row(text, c, "") for c, name in names.items() for text in _positives(name)], train_fraction)
        for group, names in groups.items()
    ]


def _agency(text: str) -> str:
    return "agency" if AGENCY.search(text) else "no agency"


def _licence(text: str) -> str:
    return "licence" if LICENCE.search(text[:CODE_HEAD]) else "no licence"


def _positives(name: str) -> list[str]:
    """Its texts with the second label, each once."""
    found = read_labelled(name)
    return list(dict.fromkeys(text for text, label in zip(found.texts, found.labels, strict=True) if label))


def _split(
    name: str,
    rows: Iterable[Row],
    train_fraction: float,
    attributes: tuple[str, ...] = ("",),
    pairs: tuple[tuple[str, str], ...] = (),
) -> Table:
    """The first texts of every concept with every attribute are for training."""
    cells: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        cells[row.concept, row.attribute].append(row)
    train, test = [], []
    for cell in cells.values():
        first = round(train_fraction * len(cell))
        train += cell[:first]
        test += cell[first:]
    classes = tuple(dict.fromkeys(row.concept for row in train))
    return Table(name, train, test, attributes, pairs, classes, "labelled texts of the package sae-probes")

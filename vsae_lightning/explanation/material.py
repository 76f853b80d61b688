"""What a language model is shown of a feature, and what it is asked."""

from typing import NamedTuple, TypeVar

import numpy as np

from vsae_lightning.explanation.passages import Passage
from vsae_lightning.explanation.report_data import Evidence
from vsae_lightning.explanation.settings import Scoring

T = TypeVar("T")


class Question(NamedTuple):
    """A text, and whether it fits the feature."""

    text: str
    fits: bool


class Material(NamedTuple):
    """Of one feature.

    Attributes:
        shown: The texts that it is explained from.
        detection: In which texts does it fire? In batches; none where no window is known in which it does not.
        fuzzing: In which texts are the marked tokens those where it fires? In batches.
    """

    shown: list[str]
    detection: list[list[Question]]
    fuzzing: list[list[Question]]


def material(feature: int, evidence: Evidence, settings: Scoring) -> Material | None:
    """Choose it at random, but always the same for the same evidence.

    Texts with a firing are far enough apart to share no token, and no other one shares a token with one that is shown.

    Args:
        feature: On which the choice depends.
        evidence: Where the feature fires and where it does not.
        settings: How much of it.

    Returns:
        None where it fires too seldom: nothing is left to ask about.
    """
    most = min(settings.shown, len(evidence.firing) // 2)
    shown = _apart(evidence.firing[:most], [])
    rest = _apart(evidence.firing[most:], shown)
    if not shown or not rest:
        return None
    chance = np.random.default_rng([settings.seed, feature])
    firing = _some(rest, settings.examples, chance)
    silent = _some([window for window in evidence.silent if not window.overlaps(shown)], settings.examples, chance)
    detection = [
        Question(passage.marked(()), fits) for fits, some in ((True, firing), (False, silent)) for passage in some
    ]
    return Material(
        [passage.marked(passage.peaks) for passage in shown],
        _batches(_some(detection, len(detection), chance), settings.batch) if silent else [],
        [batch for half in _fuzzed(firing, chance) for batch in _batches(half, settings.batch)],
    )


def _apart(passages: list[Passage], others: list[Passage]) -> list[Passage]:
    """Those that share no token with others, nor with an earlier one."""
    kept: list[Passage] = []
    for passage in passages:
        if not passage.overlaps([*others, *kept]):
            kept.append(passage)
    return kept


def _fuzzed(firing: list[Passage], chance: np.random.Generator) -> tuple[list[Question], list[Question]]:
    """Every passage marked rightly and marked wrongly, by chance one in the first half and the other in the second.

    So no batch has a passage twice, which would give away that one of them is wrong. The right marks are the strongest
    firings, the wrong ones as many pieces where it does not fire.
    """
    halves: tuple[list[Question], list[Question]] = ([], [])
    for passage in firing:
        places = sorted(passage.peaks, key=lambda place: -passage.pieces[place].strength)[: len(passage.silent)]
        if not places:
            continue
        first = int(chance.integers(2))
        halves[first].append(Question(passage.marked(places), True))
        halves[1 - first].append(Question(passage.marked(_some(passage.silent, len(places), chance)), False))
    return halves


def _batches(questions: list[Question], size: int) -> list[list[Question]]:
    return [questions[first : first + size] for first in range(0, len(questions), size)]


def _some(items: list[T], count: int, chance: np.random.Generator) -> list[T]:
    """So many, or all, in random order."""
    return [items[place] for place in chance.permutation(len(items))[:count].tolist()]

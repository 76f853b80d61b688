"""What is asked of a feature is fair: nothing that was shown, no passage twice in a batch, both kinds alike."""

from itertools import chain

import pytest

from vsae_lightning.explanation.material import Question, material
from vsae_lightning.explanation.passages import Passage, Piece
from vsae_lightning.explanation.report_data import Evidence
from vsae_lightning.explanation.settings import Scoring


def firing(number: int, at: int = 2, length: int = 5) -> Passage:
    """Fires on its token `at`, and more weakly on the one behind it; its other tokens tell which passage it is."""
    strengths = [9.0 if place == at else 3.0 if place == at + 1 else 0.0 for place in range(length)]
    pieces = [Piece(f" {number}.{place}", strength, True) for place, strength in enumerate(strengths)]
    return Passage(pieces, 100 * number, 100 * number + length)


def silent(number: int) -> Passage:
    return Passage([Piece(f" quiet{number}", 0.0, True)], 10_000 + number, 10_001 + number)


def evidence(contexts: int, windows: int = 40) -> Evidence:
    return Evidence([firing(number) for number in range(contexts)], [silent(number) for number in range(windows)])


def test_the_strongest_are_shown_and_the_others_asked_about() -> None:
    found = material(7, evidence(27), Scoring(shown=12, examples=15))
    assert found is not None
    assert found.shown == [f" {n}.0 {n}.1« {n}.2 {n}.3» {n}.4" for n in range(12)]
    asked = list(chain(*found.detection))
    plain = {f" {n}.0 {n}.1 {n}.2 {n}.3 {n}.4" for n in range(12, 27)}
    assert {question.text for question in asked if question.fits} == plain
    others = [question.text for question in asked if not question.fits]
    assert len(others) == len(set(others)) == 15
    assert all(text.startswith(" quiet") for text in others)
    assert [len(batch) for batch in found.detection] == [5] * 6


def test_fuzzing_has_every_passage_right_and_wrong_but_never_in_one_batch() -> None:
    found = material(7, evidence(6), Scoring(shown=3, examples=15, batch=5))
    assert found is not None
    asked = list(chain(*found.fuzzing))
    right = {f" {n}.0 {n}.1« {n}.2 {n}.3» {n}.4" for n in (3, 4, 5)}
    assert {question.text for question in asked if question.fits} == right
    wrong = [question.text for question in asked if not question.fits]
    assert len(wrong) == 3
    for text in wrong:  # two of the three tokens where it does not fire
        assert text.count(".2»") + text.count(".3»") + text.count("« 3.2") == 0
        inside = "".join(part.split("»")[0] for part in text.split("«")[1:])
        assert {word.split(".")[1] for word in inside.split()} < {"0", "1", "4"}
        assert len(inside.split()) == 2
    for batch in found.fuzzing:
        passages = [question.text.replace("«", "").replace("»", "") for question in batch]
        assert len(set(passages)) == len(passages)


def test_as_many_are_marked_wrongly_as_rightly_where_it_fires_nearly_everywhere() -> None:
    one = Passage([Piece("a", 1.0, True), Piece("b", 5.0, True), Piece("c", 0.0, True), Piece("d", 0, False)], 0, 4)
    everywhere = Passage([Piece("e", 1.0, True)], 50, 51)
    found = material(0, Evidence([firing(9), firing(8), one, everywhere], []), Scoring(shown=2))
    assert found is not None
    assert set(chain(*found.fuzzing)) == {Question("a«b»cd", True), Question("ab«c»d", False)}
    assert found.detection == []  # no window is known where it does not fire


def test_what_overlaps_a_shown_one_is_not_asked_about() -> None:
    near = Passage([Piece("near", 1.0, True)], 4, 5)
    window = Passage([Piece("window", 0.0, True)], 3, 4)
    found = material(0, Evidence([firing(0), near, firing(1)], [window, silent(0)]), Scoring(shown=1))
    assert found is not None
    assert len(found.shown) == 1
    assert {question.text for question in chain(*found.detection)} == {" 1.0 1.1 1.2 1.3 1.4", " quiet0"}


def test_neighbours_in_the_text_count_once() -> None:
    """A feature that fires on many tokens in a row has contexts that are nearly the same."""
    shifted = [Passage(firing(n).pieces, 100 * n + shift, 100 * n + shift + 5) for n in range(4) for shift in (0, 1)]
    found = material(0, Evidence(shifted, [silent(0)]), Scoring(shown=4))
    assert found is not None
    assert len(found.shown) == 2
    assert sum(question.fits for question in chain(*found.detection)) == 2


@pytest.mark.parametrize("contexts", [0, 1])
def test_one_context_is_too_few(contexts: int) -> None:
    assert material(0, evidence(contexts), Scoring()) is None


def test_never_more_than_half_are_shown() -> None:
    found = material(0, evidence(5), Scoring(shown=12))
    assert found is not None
    assert len(found.shown) == 2
    assert sum(question.fits for question in chain(*found.detection)) == 3


def test_the_same_seed_asks_the_same() -> None:
    one, same, other = (material(3, evidence(27), Scoring(seed=seed)) for seed in (0, 0, 1))
    assert one == same != other
    assert material(4, evidence(27), Scoring()) != one

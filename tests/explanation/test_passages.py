"""What of the corpus a prompt shows."""

import pytest

from vsae_lightning.explanation.passages import Passage, passage

GRIN = list("\U0001f600".encode())


def always(position: int) -> bool:
    return True


def test_marks_stand_around_runs() -> None:
    found = passage(["the", " old", " red", " sea"], {1: 2.0, 2: -0.6, 3: 0.59}, 10, always)
    assert found.marked(found.peaks) == "the« old red» sea"  # the last one fires less than 0.3 times as strongly as any
    assert found.marked([0, 2]) == "«the» old« red» sea"
    assert found.marked(()) == "the old red sea"
    assert [piece.strength for piece in found.pieces] == [0, 2, 0.6, 0.59]
    assert (found.start, found.end, found.silent) == (10, 14, [0])


def test_parts_of_a_character_are_one_piece() -> None:
    found = passage(["a ", GRIN[:2], GRIN[2:], "!", GRIN[:1]], {2: 3.0}, 0, always)
    assert [piece.text for piece in found.pieces] == ["a ", "\U0001f600", "!", "�"]
    assert found.marked(found.peaks) == "a «\U0001f600»!�"
    assert found.silent == [0, 2, 3]


def test_marks_of_the_corpus_are_not_taken_for_ours() -> None:
    found = passage(["«le»", " «", "x"], {2: 1.0}, 0, always)
    assert found.marked(found.peaks) == "\u2039le\u203a \u2039«x»"


def test_a_token_that_was_not_read_is_not_silent() -> None:
    found = passage(["a", "b", "c"], {2: 1.0}, 32, lambda position: position % 32 >= 1)
    assert found.silent == [1]


def test_what_utf8_cannot_say_can_be_sent() -> None:
    found = passage(["\ud83d", [255]], {}, 0, always)
    assert "".join(piece.text for piece in found.pieces).encode()


@pytest.mark.parametrize(("start", "end", "shared"), [(0, 5, False), (4, 6, True), (9, 12, True), (10, 12, False)])
def test_overlap_is_a_shared_token(start: int, end: int, shared: bool) -> None:
    assert Passage([], start, end).overlaps([Passage([], 100, 101), Passage([], 5, 10)]) is shared

"""Which text is read, and where its activations are."""

from pathlib import Path

import numpy as np
import pytest

from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.errors import InputError


def test_held_out_sequences_come_first_and_others_fill_up(run: Path) -> None:
    subject = open_subject(str(run))
    held_out, train = subject.tokens.held_out, subject.tokens.train
    few = Excerpt.of(subject, 5 * 16 + 7)
    assert (few.tokens == held_out[:5]).all()
    assert (few.held_out, few.rows) == (5, 5 * 15)
    more = Excerpt.of(subject, 16 * (len(held_out) + 2))
    assert more.held_out == len(held_out)
    assert (more.tokens == np.concatenate([held_out, train[:2]])).all()
    everything = Excerpt.of(subject, 2**31 - 1)
    assert len(everything.tokens) == len(held_out) + len(train)


@pytest.mark.parametrize("tokens", [0, 15, -16, 2**31])
def test_no_sequence_or_too_many_is_refused(run: Path, tokens: int) -> None:
    with pytest.raises(InputError, match=f"tokens is {tokens}; it must be at least one sequence of 16, and at most"):
        Excerpt.of(open_subject(str(run)), tokens)


def test_positions_leave_out_what_is_context_alone() -> None:
    excerpt = Excerpt(np.arange(12, dtype=np.int32).reshape(3, 4), 1, 1)
    positions = excerpt.positions(np.arange(9))
    assert positions.tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert excerpt.rows_at(positions).tolist() == list(range(9))
    assert excerpt.rows_at(np.array([11, 2])).tolist() == [8, 1]
    batches = list(excerpt.batches(2))
    assert [tokens.tolist() for tokens, _ in batches] == [[[0, 1, 2, 3], [4, 5, 6, 7]], [[8, 9, 10, 11]]]
    assert np.concatenate([positions for _, positions in batches]).tolist() == positions.tolist()


def test_what_is_around_a_position_is_cut_at_the_ends_of_its_sequence() -> None:
    excerpt = Excerpt(np.zeros((3, 8), dtype=np.int32), 1, 1)
    starts, ends = excerpt.around(np.array([9, 12, 15]), before=3, after=2)
    assert starts.tolist() == [8, 9, 12]
    assert ends.tolist() == [12, 15, 16]

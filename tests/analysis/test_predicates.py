"""Features that a statement describes exactly, features that none does, and every count by brute force."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from jaxtyping import Bool

from vsae_lightning.analysis import predicates as module
from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.firings import Firings
from vsae_lightning.analysis.predicates import Predicate, best_set, f1_column, mean_f1, predicates
from vsae_lightning.analysis.token_classes import CLASSES, token_classes, tokens_before
from vsae_lightning.autoencoders.latents import DenseLatents
from vsae_lightning.evaluation.evaluation import untracked

VOCABULARY = [" king", " King", "s", "1", ",", " of", " the", "\n", " a", "ly"]
SEQUENCES, LENGTH, FIRST = 96, 24, 2
CHANCE = np.random.default_rng(0)
TOKENS = CHANCE.integers(0, len(VOCABULARY), (SEQUENCES, LENGTH)).astype(np.int32)
EXCERPT = Excerpt(TOKENS, SEQUENCES, FIRST)
BEFORE = tokens_before(TOKENS, nothing=len(VOCABULARY))
ROWS = np.broadcast_to(np.arange(LENGTH) >= FIRST, TOKENS.shape)
JUDGED = np.broadcast_to((np.arange(SEQUENCES) // 16 % 2 == 1)[:, None], TOKENS.shape)

Fires = Bool[np.ndarray, "sequences context_length"]


def found(fires: Sequence[Fires], excerpt: Excerpt = EXCERPT) -> list[Predicate | None]:
    """The predicates of features that fire there, where a row is read."""
    firings = Firings(len(fires))
    for _, positions in excerpt.batches(7):
        values = np.stack([one.ravel()[positions] for one in fires], axis=1)
        firings.add(positions, DenseLatents(torch.from_numpy(values).float()))
    return predicates(firings, excerpt, VOCABULARY, untracked)


KNOWN: dict[str, Fires] = {
    "the token is ' of'": TOKENS == 5,
    "the token is one of ' king', ' King'": (TOKENS == 0) | (TOKENS == 1),
    "the token before is '\\n'": BEFORE == 7,
    "the token has a digit and the token was there before in the sequence": (TOKENS == 3)
    & np.array([[token in row[:place] for place, token in enumerate(row)] for row in TOKENS]),
    "the token is ' of' and the token before is ' king'": (TOKENS == 5) & (BEFORE == 0),
    "the token is one of the first 8 of the sequence": np.broadcast_to(np.arange(LENGTH) < 8, TOKENS.shape),
    "the token starts with a space": np.isin(TOKENS, [0, 1, 5, 6, 8]),
}


def test_what_a_statement_describes_has_f1_1() -> None:
    for (text, _), predicate in zip(KNOWN.items(), found(list(KNOWN.values())), strict=True):
        assert predicate is not None
        assert predicate[2:] == (1.0, 1.0, 1.0), predicate
        if text.startswith(("the token is ' of'", "the token before")):
            assert predicate.text == text
    named = [predicate.tokens for predicate in found(list(KNOWN.values())) if predicate]
    assert (named[0], sorted(named[1]), named[2], named[4]) == ([5], [0, 1], [7], [5, 0])


def test_what_changes_between_the_halves_has_f1_0() -> None:
    """Nothing that is learned of one half is known of the other: neighbouring sequences are in one half."""
    (predicate,) = found([np.where(JUDGED, TOKENS == 9, TOKENS == 8)])
    assert predicate == Predicate("the token is ' a'", [8], 0.0, 0.0, 0.0)


def test_chance() -> None:
    """Of firings at random with probability p a statement that holds in a share q of rows has precision p, recall q."""
    p = 0.2
    fires = [CHANCE.random(TOKENS.shape) < p for _ in range(30)]
    rows = int((ROWS & JUDGED).sum())
    scores = found(fires)
    for fired, predicate in zip(fires, scores, strict=True):
        assert predicate is not None
        firings = int((fired & ROWS & JUDGED).sum())
        q = predicate.recall * firings / (predicate.precision * rows)
        expected = 2 * p * q / (p + q)
        assert predicate.f1 == pytest.approx(expected, abs=4 * (p * (1 - p) / (q * rows)) ** 0.5)
    mean = mean_f1(scores)
    assert mean is not None
    assert mean < 2 * p / (1 + p) + 0.01  # that of a statement that always holds
    assert f1_column(scores).values.mean() == pytest.approx(mean)


def test_what_fires_too_rarely_in_a_half_has_none() -> None:
    rare = np.zeros((3, SEQUENCES * LENGTH), dtype=bool)
    ours, theirs = (np.flatnonzero((ROWS & half).ravel()) for half in (~JUDGED, JUDGED))
    for one, (few, many) in zip(rare, [(9, 10), (10, 9), (10, 10)], strict=True):
        one[ours[:few]] = one[theirs[:many]] = True
    scores = found([one.reshape(TOKENS.shape) for one in rare])
    assert [score is None for score in scores] == [True, True, False]
    assert np.isnan(f1_column(scores).values).tolist() == [True, True, False]
    assert mean_f1(scores[:2]) is None


def test_one_sequence_has_no_second_half() -> None:
    excerpt = Excerpt(TOKENS[:1], 1, FIRST)
    assert found([np.ones((1, LENGTH), dtype=bool)], excerpt) == [None]


def test_the_choice_is_the_best_of_all_and_is_judged_by_brute_force() -> None:
    fires = [
        np.where(np.isin(TOKENS, token), CHANCE.random(TOKENS.shape) < 0.6, CHANCE.random(TOKENS.shape) < 0.1)
        for token in (0, 4)
    ]
    fires.append((BEFORE == 6) & np.isin(TOKENS, [0, 2, 3]) & (CHANCE.random(TOKENS.shape) < 0.9))
    classes = token_classes(TOKENS, VOCABULARY)
    for fired, predicate in zip(fires, found(fires), strict=True):
        assert predicate is not None
        ours = ROWS & ~JUDGED
        sets = [
            best_set(x[fired & ours], np.bincount(x[ours], minlength=len(VOCABULARY) + 1)) for x in (TOKENS, BEFORE)
        ]
        held = [np.isin(TOKENS, sets[0]), np.isin(BEFORE, sets[1]), *classes.T.reshape(len(CLASSES), *TOKENS.shape)]
        both = [one & other for one, other in itertools.combinations_with_replacement(held, 2)]
        best = max(both, key=lambda holds: f1(fired, holds, ours))
        assert predicate.f1 == pytest.approx(f1(fired, best, ROWS & JUDGED))


def f1(fired: Fires, holds: Fires, where: Fires) -> float:
    return float(2 * (fired & holds & where).sum() / ((fired & where).sum() + (holds & where).sum()))


@pytest.mark.parametrize("most", [1, 2, 7])
def test_no_other_set_is_better(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against all sets of up to so many of seven tokens."""
    monkeypatch.setattr(module, "MAX_TOKENS", most)
    for _ in range(20):
        rows = CHANCE.integers(1, 60, 7)
        hits = CHANCE.binomial(rows, CHANCE.random(7) ** 3)
        fired = np.repeat(np.arange(7), hits)
        if not len(fired):
            continue
        sets = [list(s) for n in range(1, most + 1) for s in itertools.combinations(range(7), n)]
        scores = [2 * hits[s].sum() / (len(fired) + rows[s].sum()) for s in sets]
        chosen = best_set(fired, rows)
        assert len(chosen) <= most
        assert 2 * hits[chosen].sum() / (len(fired) + rows[chosen].sum()) == pytest.approx(max(scores))

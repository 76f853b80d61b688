"""How well simple statements about tokens predict where a feature fires: a score that needs no language model.

A statement is chosen on one half of an excerpt and judged on the other: the F1 of "fires" and "the statement holds"
over rows. It is one of: the token, or the one before, is one of a set; the token is of a class (`token_classes`); or
two of these at once. The halves are blocks of sequences in turn, so that both have all parts of the text.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from vsae_lightning.analysis.columns import Column
from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.firings import Firings
from vsae_lightning.analysis.token_classes import CLASSES, token_classes, tokens_before
from vsae_lightning.evaluation.evaluation import Track

BLOCK_SEQUENCES = 16
MIN_FIRINGS = 10  # in each half
MAX_TOKENS = 20  # of a set
SHOWN_TOKENS = 8
SETS = ("the token is", "the token before is")
NUMBER = len(SETS) + len(CLASSES)
# A statement alone comes first: of equal ones the simpler is taken.
PAIRS = np.array([(i, i) for i in range(NUMBER)] + [(i, j) for i in range(NUMBER) for j in range(i + 1, NUMBER)])


class Predicate(NamedTuple):
    """The statement that predicts a feature best.

    Attributes:
        text: For a reader.
        tokens: Of its sets.
        f1: 2 precision recall / (precision + recall), on the half on which it was not chosen, as the others.
        precision: The share of rows where it holds that fire.
        recall: The share of firing rows where it holds.
    """

    text: str
    tokens: list[int]
    f1: float
    precision: float
    recall: float


def predicates(
    firings: Firings, excerpt: Excerpt, vocabulary: Sequence[str | list[int]], track: Track
) -> list[Predicate | None]:
    """Of every feature the one that predicts it best; None of one that fires too rarely in either half.

    Args:
        firings: Of the features.
        excerpt: What was read.
        vocabulary: The text of every token, or its bytes.
        track: Shows how far it is.
    """
    search = _Search(firings, excerpt, vocabulary)
    return [search.best(latent) for latent in track(range(firings.d_sae), firings.d_sae, "predicates")]


def f1_column(found: Sequence[Predicate | None]) -> Column:
    """For a table of features; NaN of one that has none."""
    what = "F1 of the best simple statement about tokens, on the half of the text on which it was not chosen"
    values = np.array([np.nan if one is None else one.f1 for one in found])
    return Column("predicate_f1", "predicate F1", what, "number", values)


def mean_f1(found: Sequence[Predicate | None]) -> float | None:
    """Over the features that have one: how simple a dictionary is, all in all."""
    scores = [one.f1 for one in found if one is not None]
    return float(np.mean(scores)) if scores else None


def best_set(fired: Int[np.ndarray, " firings"], rows: Int[np.ndarray, " tokens"]) -> Int[np.ndarray, " chosen"]:
    """The set of at most `MAX_TOKENS` tokens that predicts best where a feature fires.

    F1 = 2 sum_t hits_t / (firings + sum_t rows_t) over the tokens t of the set; its maximum is found by Dinkelbach's
    method (1967, Management Science 13): the tokens of the largest 2 hits - F1 rows, for a rising F1.

    Args:
        fired: The token at each firing.
        rows: How often each token is there.
    """
    tokens, hits = np.unique(fired, return_counts=True)
    there = rows[tokens]
    f1, better = -1.0, 0.0
    while better > f1:
        f1 = better
        gain = 2 * hits - f1 * there
        chosen = np.argsort(-gain, kind="stable")[:MAX_TOKENS]
        chosen = chosen[gain[chosen] > 0]
        better = float(2 * hits[chosen].sum() / (len(fired) + there[chosen].sum()))
    return tokens[chosen]


class _Search:
    def __init__(self, firings: Firings, excerpt: Excerpt, vocabulary: Sequence[str | list[int]]) -> None:
        self.firings = firings
        self.vocabulary = vocabulary
        self.context_length = excerpt.context_length
        self.judged = _judged(len(excerpt.tokens))
        text = _Text(
            excerpt.tokens.ravel(),
            tokens_before(excerpt.tokens, nothing=len(vocabulary)).ravel(),
            token_classes(excerpt.tokens, vocabulary),
        )
        is_row = np.tile(np.arange(self.context_length) >= excerpt.first_offset, len(excerpt.tokens))
        judged = np.repeat(self.judged, self.context_length)
        self.text = text
        self.choosing, self.judging = (_Rows(text.at(is_row & half), len(vocabulary)) for half in (~judged, judged))

    def best(self, latent: int) -> Predicate | None:
        positions = self.firings.of(latent).positions
        judged = self.judged[positions // self.context_length]
        ours, theirs = self.text.at(positions[~judged]), self.text.at(positions[judged])
        if min(len(ours.tokens), len(theirs.tokens)) < MIN_FIRINGS:
            return None
        sets = _Sets(best_set(ours.tokens, self.choosing.of_token), best_set(ours.before, self.choosing.of_before))
        hits, there = self.choosing.count(sets, ours)
        pair = tuple(PAIRS[(2 * hits / (len(ours.tokens) + there))[*PAIRS.T].argmax()].tolist())
        hits, there = (counted[pair] for counted in self.judging.count(sets, theirs))
        precision = float(hits / there) if there else 0.0
        recall, f1 = float(hits / len(theirs.tokens)), float(2 * hits / (len(theirs.tokens) + there))
        parts = sorted({*pair})
        tokens = [token for part in parts if part < len(SETS) for token in sets[part].tolist()]
        return Predicate(" and ".join(self._text(part, sets) for part in parts), tokens, f1, precision, recall)

    def _text(self, part: int, sets: "_Sets") -> str:
        if part >= len(SETS):
            return CLASSES[part - len(SETS)]
        names = [self._quoted(token) for token in sets[part][:SHOWN_TOKENS].tolist()]
        more = len(sets[part]) - len(names)
        listed = ", ".join(names) + (f" and {more} more" if more else "")
        return f"{SETS[part]} {listed}" if len(sets[part]) == 1 else f"{SETS[part]} one of {listed}"

    def _quoted(self, token: int) -> str:
        if token == len(self.vocabulary):
            return "none"
        text = self.vocabulary[token]
        return repr(text if isinstance(text, str) else bytes(text))


class _Sets(NamedTuple):
    """Of tokens, in the order of `SETS`."""

    tokens: Int[np.ndarray, " some"]
    before: Int[np.ndarray, " others"]


class _Text(NamedTuple):
    """Of some positions the token, the token before, and the classes."""

    tokens: Int[np.ndarray, " positions"]
    before: Int[np.ndarray, " positions"]
    classes: Bool[np.ndarray, "positions classes"]

    def at(self, which: Int[np.ndarray, " some"] | Bool[np.ndarray, " positions"]) -> "_Text":
        return _Text(self.tokens[which], self.before[which], self.classes[which])


class _Rows:
    """Half of the rows, counted once for all features, so that a feature costs what its firings do."""

    def __init__(self, text: _Text, num_tokens: int) -> None:
        size = num_tokens + 1
        self.of_token, self.of_before = (np.bincount(x, minlength=size) for x in (text.tokens, text.before))
        self.by_class = [
            np.stack([np.bincount(x[holds], minlength=size) for holds in text.classes.T], axis=1)
            for x in (text.tokens, text.before)
        ]
        self.classes = np.array([[(one & other).sum() for other in text.classes.T] for one in text.classes.T])
        self.pairs, self.of_pair = np.unique(text.tokens * np.int64(size) + text.before, return_counts=True)

    def count(
        self, sets: _Sets, fired: _Text
    ) -> tuple[Float[np.ndarray, "statements statements"], Int[np.ndarray, "statements statements"]]:
        """In how many firings, and in how many rows, two statements hold at once; on the diagonal, one."""
        in_sets = [self._is_in(chosen)[x] for chosen, x in zip(sets, (fired.tokens, fired.before), strict=True)]
        held = np.column_stack([*in_sets, fired.classes]).astype(np.float32)  # exact to 16 million firings, and quick
        there = np.empty((NUMBER, NUMBER), dtype=np.int64)
        there[2:, 2:] = self.classes
        for part, of_class in enumerate(self.by_class):
            there[part, 2:] = there[2:, part] = of_class[sets[part]].sum(axis=0)
        there[0, 0], there[1, 1] = self.of_token[sets.tokens].sum(), self.of_before[sets.before].sum()
        there[0, 1] = there[1, 0] = self._of_both(sets)
        return held.T @ held, there

    def _of_both(self, sets: _Sets) -> int:
        """The rows of a token of the one set after one of the other."""
        wanted = (sets.tokens[:, None] * np.int64(len(self.of_token)) + sets.before).ravel()
        place = np.searchsorted(self.pairs[:-1], wanted)
        return int(self.of_pair[place][self.pairs[place] == wanted].sum())

    def _is_in(self, chosen: Int[np.ndarray, " some"]) -> Bool[np.ndarray, " tokens"]:
        held = np.zeros(len(self.of_token), dtype=bool)
        held[chosen] = True
        return held


def _judged(sequences: int) -> Bool[np.ndarray, " sequences"]:
    """Every other block of sequences; of few sequences blocks are smaller."""
    block = max(1, min(BLOCK_SEQUENCES, sequences // 4))
    return np.arange(sequences) // block % 2 == 1

"""Classes of tokens by hand."""

import numpy as np

from vsae_lightning.analysis.token_classes import CLASSES, token_classes, tokens_before

VOCABULARY: list[str | list[int]] = [
    "the",
    " King",
    "7th",
    " 12",
    ",",
    " ...",
    "\n\n",
    [240, 159],
    " don't",
    "\u00c9t\u00e9",
    "",
]


def of(name: str) -> list[int]:
    """The tokens of the vocabulary in one class."""
    classes = token_classes(np.arange(len(VOCABULARY), dtype=np.int32)[None], VOCABULARY)
    return np.flatnonzero(classes[:, CLASSES.index(name)]).tolist()


def test_by_text() -> None:
    assert of("the token starts with a capital") == [1, 9]
    assert of("the token has a digit") == [2, 3]
    assert of("the token is punctuation") == [4, 5]
    assert of("the token starts with a space") == [1, 3, 5, 8]
    assert of("the token is a whole word") == [1]
    assert of("the token is letters with no space before") == [0, 9]
    assert of("the token has a newline") == [6]


def test_by_place() -> None:
    assert of("the token is one of the first 8 of the sequence") == list(range(8))
    tokens = np.array([[3, 1, 3, 3, 1], [1, 2, 4, 2, 0]], dtype=np.int32)
    repeated = token_classes(tokens, VOCABULARY)[:, CLASSES.index("the token was there before in the sequence")]
    assert repeated.tolist() == [False, False, True, True, True, False, False, False, True, False]
    assert tokens_before(tokens, nothing=9).tolist() == [[9, 3, 1, 3, 3], [9, 1, 2, 4, 2]]

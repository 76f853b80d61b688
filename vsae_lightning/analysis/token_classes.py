"""What kinds of token there are, by their text and by where they stand."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Int

EARLY = 8
OF_TEXT: dict[str, Callable[[str], bool]] = {
    "the token starts with a capital": lambda text: text.lstrip()[:1].isupper(),
    "the token has a digit": lambda text: any(character.isdigit() for character in text),
    "the token is punctuation": lambda text: bool(text.strip()) and not any(c.isalnum() for c in text),
    "the token starts with a space": lambda text: text.startswith(" "),
    "the token is a whole word": lambda text: text.startswith(" ") and text[1:].isalpha(),
    "the token is letters with no space before": lambda text: text.isalpha(),
    "the token has a newline": lambda text: "\n" in text,
}
CLASSES = (
    *OF_TEXT,
    f"the token is one of the first {EARLY} of the sequence",
    "the token was there before in the sequence",
)


def token_classes(
    tokens: Int[np.ndarray, "sequences context_length"], vocabulary: Sequence[str | list[int]]
) -> Bool[np.ndarray, "positions classes"]:
    """Of every position which of `CLASSES` its token is of.

    Args:
        tokens: Whole sequences.
        vocabulary: The text of every token; bytes that are no text by themselves are of no class of text.
    """
    texts = [text if isinstance(text, str) else "" for text in vocabulary]
    by_text = np.array([[holds(text) for holds in OF_TEXT.values()] for text in texts])
    early = np.broadcast_to(np.arange(tokens.shape[1]) < EARLY, tokens.shape)
    by_place = np.stack([early.ravel(), _repeated(tokens).ravel()], axis=1)
    return np.concatenate([by_text[tokens.ravel()], by_place], axis=1)


def tokens_before(
    tokens: Int[np.ndarray, "sequences context_length"], nothing: int
) -> Int[np.ndarray, "sequences context_length"]:
    """The token before each; `nothing` at the start of a sequence."""
    return np.concatenate([np.full((len(tokens), 1), nothing, tokens.dtype), tokens[:, :-1]], axis=1)


def _repeated(tokens: Int[np.ndarray, "sequences context_length"]) -> Bool[np.ndarray, "sequences context_length"]:
    """Whether the same token comes earlier in its sequence."""
    order = np.argsort(tokens, axis=1, kind="stable")
    ordered = np.take_along_axis(tokens, order, axis=1)
    same = np.zeros(tokens.shape, dtype=bool)
    same[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = np.empty_like(same)
    np.put_along_axis(repeated, order, same, axis=1)
    return repeated

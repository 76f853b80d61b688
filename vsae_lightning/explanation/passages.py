"""A few tokens of the corpus as a language model is shown them."""

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import NamedTuple

OPEN, CLOSE = "«", "»"
UNMARKED = str.maketrans(OPEN + CLOSE, "\u2039\u203a")  # single ones
PEAK = 0.3  # as the code of Paulo et al. 2024 has it: weaker firings beside a strong one blur what it is about
Token = str | list[int]
"""Of a vocabulary: its text, or the bytes of one that is a part of a character."""


class Piece(NamedTuple):
    """One token, or the tokens that characters are made of together.

    Attributes:
        text: As it is read.
        strength: |value| of the feature there, of several tokens the largest; 0: it does not fire.
        read: Whether the autoencoder was shown a token of it, so that it could fire.
    """

    text: str
    strength: float
    read: bool


class Passage(NamedTuple):
    """A context of a feature, or a window where it does not fire.

    Attributes:
        pieces: In the order of the text.
        start: Position of the first token.
        end: Position behind the last one.
    """

    pieces: list[Piece]
    start: int
    end: int

    @property
    def peaks(self) -> list[int]:
        """Which pieces the feature fires in most strongly: at least `PEAK` times as strongly as in any."""
        least = PEAK * max(piece.strength for piece in self.pieces)
        return [place for place, piece in enumerate(self.pieces) if piece.strength and piece.strength >= least]

    @property
    def silent(self) -> list[int]:
        """Which pieces it could fire in, and does not."""
        return [place for place, piece in enumerate(self.pieces) if piece.read and not piece.strength]

    def overlaps(self, others: Iterable["Passage"]) -> bool:
        """Whether it shares a token of the text with one of them."""
        return any(self.start < other.end and other.start < self.end for other in others)

    def marked(self, places: Iterable[int]) -> str:
        """The text, with « before and » after every run of these pieces; such signs of its own become single ones."""
        wanted = set(places)
        runs = groupby(enumerate(self.pieces), lambda numbered: numbered[0] in wanted)
        texts = [(inside, "".join(piece.text for _, piece in run).translate(UNMARKED)) for inside, run in runs]
        return "".join(f"{OPEN}{text}{CLOSE}" if inside else text for inside, text in texts)


def passage(tokens: list[Token], strengths: dict[int, float], start: int, is_read: Callable[[int], bool]) -> Passage:
    """Tokens to pieces.

    Args:
        tokens: In the order of the text.
        strengths: The value of the feature at those tokens where it fires, by their index.
        start: Position of the first.
        is_read: Whether the autoencoder is shown the token of a position.
    """
    pieces = []
    numbered = list(enumerate(tokens))
    for of_bytes, run in groupby(numbered, lambda item: isinstance(item[1], list)):
        for group in [list(run)] if of_bytes else [[item] for item in run]:
            places = [place for place, _ in group]
            strength = max(abs(strengths.get(place, 0.0)) for place in places)
            pieces.append(
                Piece(_text([token for _, token in group]), strength, any(is_read(start + p) for p in places))
            )
    return Passage(pieces, start, start + len(tokens))


def _text(tokens: list[Token]) -> str:
    """What UTF-8 cannot say, such as half a character, is �."""
    found = b"".join(token.encode("utf-8", "replace") if isinstance(token, str) else bytes(token) for token in tokens)
    return found.decode("utf-8", "replace")

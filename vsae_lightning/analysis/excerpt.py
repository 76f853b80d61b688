"""The text that an analysis reads."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.subject import Subject

MOST = 2**31 - 1  # a position is an int32


@dataclass(frozen=True)
class Excerpt:
    """Whole sequences: those held out, then, where these are too few, the first of those trained on.

    A *position* is a place in all of them, one after the other: `sequence * context_length + offset`.

    Attributes:
        tokens: Of the sequences.
        held_out: How many of the sequences are held out.
        first_offset: The tokens of a sequence before it are context alone: training leaves their activations out.
    """

    tokens: Int[np.ndarray, "sequences context_length"]
    held_out: int
    first_offset: int

    @classmethod
    def of(cls, subject: Subject, max_tokens: int) -> "Excerpt":
        """Of the text that an autoencoder was trained on, no more than `max_tokens`.

        Raises:
            InputError: They are not one sequence, or too many.
        """
        length = subject.provenance.context_length
        if not length <= max_tokens <= MOST:
            raise InputError(
                f"tokens is {max_tokens}; it must be at least one sequence of {length}, and at most {MOST}."
            )
        store, wanted = subject.tokens, max_tokens // length
        held_out = store.held_out[:wanted]
        trained = store.train[: wanted - len(held_out)]
        tokens = np.concatenate([held_out, trained]).astype(np.int32)
        return cls(tokens, len(held_out), subject.provenance.drop_positions)

    @property
    def context_length(self) -> int:
        return self.tokens.shape[1]

    @property
    def rows(self) -> int:
        """How many activations are read."""
        return len(self.tokens) * (self.context_length - self.first_offset)

    def positions(self, rows: Int[np.ndarray, " some"]) -> Int[np.ndarray, " some"]:
        """Where activations are, by their number among those that are read."""
        sequence, offset = np.divmod(rows, self.context_length - self.first_offset)
        return sequence * self.context_length + self.first_offset + offset

    def rows_at(self, positions: Int[np.ndarray, " some"]) -> Int[np.ndarray, " some"]:
        """The other way round: the numbers of the activations at positions, which are read."""
        sequence, offset = np.divmod(positions, self.context_length)
        return sequence * (self.context_length - self.first_offset) + offset - self.first_offset

    def around(
        self, positions: Int[np.ndarray, " some"], before: int, after: int
    ) -> tuple[Int[np.ndarray, " some"], Int[np.ndarray, " some"]]:
        """The first position of so many tokens before and after each, and that behind the last; cut at the ends of its
        sequence."""
        first = positions - positions % self.context_length
        return np.maximum(first, positions - before), np.minimum(first + self.context_length, positions + after + 1)

    def batches(
        self, sequences: int
    ) -> Iterator[tuple[Int[Tensor, "sequences context_length"], Int[np.ndarray, " rows"]]]:
        """So many sequences at a time, and the positions of their activations that are read."""
        offsets = np.arange(self.first_offset, self.context_length, dtype=np.int64)
        for first in range(0, len(self.tokens), sequences):
            tokens = torch.from_numpy(self.tokens[first : first + sequences].astype(np.int64))
            starts = (first + np.arange(len(tokens), dtype=np.int64)) * self.context_length
            yield tokens, (starts[:, None] + offsets).ravel()

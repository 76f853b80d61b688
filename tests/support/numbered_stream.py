"""Streams whose every row says where it comes from, for the tests of the stream."""

from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vsae_lightning.batches import ActivationBatch
from vsae_lightning.data.stream import (
    ActivationStream,
    Sequences,
    StreamLayout,
)

CONTEXT = 6


class Positions:
    """A language model whose activation is (token id, position): every row says where it comes from."""

    d_in = 2

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self.seen: list[int] = []

    def activations(self, tokens: Tensor) -> Tensor:
        self.seen += tokens[:, 0].tolist()
        return torch.stack([tokens, torch.arange(tokens.shape[1]).expand_as(tokens)], dim=-1).to(self.dtype)


class Norms:
    """A language model whose activations are (norm, 0), given by the token id, and whose id 0 is not finite."""

    d_in = 2
    dtype = torch.float32

    def __init__(self, norms: list[float]) -> None:
        self.norms = torch.tensor(norms)

    def activations(self, tokens: Tensor) -> Tensor:
        norms = self.norms[tokens]
        return torch.stack([norms, torch.zeros_like(norms)], dim=-1)


class Row(NamedTuple):
    sequence: int
    position: int


def numbered(num_sequences: int, context: int = CONTEXT) -> Sequences:
    """Token ids that number all tokens of the corpus: sequence s holds s * context, s * context + 1, ..."""
    return np.arange(num_sequences * context, dtype=np.uint16).reshape(num_sequences, context)


def layout(**changes: Any) -> StreamLayout:
    """By default: blocks of 8 sequences, 2 per lane, 12 rows per lane, 3 of which are served per step."""
    sizes: dict[str, Any] = {
        "batch_size": 12,
        "block_sequences": 8,
        "lanes": 4,
        "drop_positions": 0,
        "lm_batch_sequences": 3,
        "max_norm_ratio": None,
        "seed": 0,
    }
    return StreamLayout(**(sizes | changes))


def stream(num_sequences: int = 20, context: int = CONTEXT, rank: int = 0, world: int = 1, **changes: Any) -> Any:
    return ActivationStream(Positions(), numbered(num_sequences, context), layout(**changes), "cpu", rank, world)


def rows_of(activations: Tensor, context: int = CONTEXT) -> list[Row]:
    rows = [Row(*divmod(int(token), context)) for token in activations[:, 0]]
    assert [row.position for row in rows] == activations[:, 1].tolist()  # the model saw whole sequences
    return rows


def take(source: ActivationStream, steps: int, start: int = 0) -> list[ActivationBatch]:
    source.position = lambda: start
    return list(islice(source, steps))

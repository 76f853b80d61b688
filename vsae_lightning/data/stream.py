"""Shuffled activations for training; the rows of a step are a function of the seed and the step alone.

Epoch: a seeded permutation of all sequences; one epoch follows the other without a gap.
Block: the next `block_sequences` sequences; it may hold the end of one epoch and the beginning of another.
Lane: a fixed slice of every block, with its own shuffle. The rows of a lane, block after block, are one endless
sequence, of which step t takes the t-th piece: whatever the sizes, every row is served once an epoch. Rank r serves
lanes r, r + W, r + 2W, ..., so that W changes nothing but who computes what.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from vsae_lightning.batches import ActivationBatch
from vsae_lightning.errors import InputError
from vsae_lightning.seeding import generator

Sequences = NDArray[np.unsignedinteger[Any]]
OVERFLOW = "the model overflows in this dtype, or its weights are damaged; try --data.dtype float32."


@runtime_checkable
class ActivationSource(Protocol):
    """What the stream needs of a language model."""

    d_in: int
    dtype: torch.dtype

    def activations(self, tokens: Int[Tensor, "sequences position"]) -> Float[Tensor, "sequences position d_in"]: ...


@dataclass(frozen=True)
class StreamLayout:
    """The sizes of a stream, all counted over all ranks.

    Args:
        batch_size: Rows per step.
        block_sequences: Sequences that are shuffled together.
        lanes: Independent parts of a block; the number of ranks divides it.
        drop_positions: First positions of every sequence that are left out (attention sinks).
        lm_batch_sequences: Sequences per forward pass of the language model.
        max_norm_ratio: Leave out rows whose norm is more than this many times the median norm; None: keep all rows.
        seed: Of every permutation.

    Raises:
        InputError: Sizes that do not fit together.
    """

    batch_size: int
    block_sequences: int
    lanes: int
    drop_positions: int
    lm_batch_sequences: int
    max_norm_ratio: float | None
    seed: int

    def __post_init__(self) -> None:
        for name in ("batch_size", "block_sequences", "lanes", "lm_batch_sequences"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.drop_positions < 0:
            raise InputError(f"drop_positions is {self.drop_positions}; it must not be negative.")
        for name in ("batch_size", "block_sequences"):
            if getattr(self, name) % self.lanes:
                raise InputError(f"{name} is {getattr(self, name)}; it must be a multiple of lanes, {self.lanes}.")
        if self.max_norm_ratio is not None and not self.max_norm_ratio > 1:
            raise InputError(f"max_norm_ratio is {self.max_norm_ratio}; it must be larger than 1.")

    @property
    def rows_per_step(self) -> int:
        """Of one lane."""
        return self.batch_size // self.lanes

    @property
    def sequences_per_lane(self) -> int:
        """In one block."""
        return self.block_sequences // self.lanes

    def rows_per_block(self, context_length: int) -> int:
        """Of one lane."""
        return self.sequences_per_lane * max(0, context_length - self.drop_positions)


class ActivationStream:
    """Iterates over `ActivationBatch` for ever.

    Rows that are not finite, and those that `max_norm_ratio` leaves out, are never served. The median is that of the
    row's lane in its block until `leave_out_above` sets one limit for all blocks.

    Attributes:
        max_norm: The limit that `leave_out_above` set; raw units.
        before_pass: Called before every pass of the language model, between two batches: whoever wants to stop a
            long computation raises here.

    Args:
        model: The language model, loaded on `device`.
        sequences: The token store.
        layout: Sizes and seed.
        device: Where activations are kept.
        rank: Of this process.
        world_size: Number of processes.
        position: The step at which an iteration begins, asked anew each time.
        max_non_finite_sequences: How many sequences with activations that are not finite may be met on this rank.

    Raises:
        InputError: The corpus is smaller than a block, or the lanes cannot be shared out.
    """

    def __init__(
        self,
        model: ActivationSource,
        sequences: Sequences,
        layout: StreamLayout,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        position: Callable[[], int] = lambda: 0,
        max_non_finite_sequences: int = 100,
    ) -> None:
        num_sequences, context_length = sequences.shape
        rows = layout.rows_per_block(context_length)
        if layout.lanes % world_size:
            raise InputError(f"lanes is {layout.lanes}; it must be a multiple of the {world_size} ranks.")
        if num_sequences < layout.block_sequences:
            raise InputError(
                f"block_sequences is {layout.block_sequences}, but there are only {num_sequences} training sequences; "
                "lower it, or give more text."
            )
        if rows == 0:
            raise InputError(
                f"drop_positions is {layout.drop_positions}: it leaves nothing of a context of {context_length}."
            )
        self.model = model
        self.sequences = sequences
        self.layout = layout
        self.device = torch.device(device)
        self.lanes = tuple(range(rank, layout.lanes, world_size))
        self.position = position
        self.max_non_finite_sequences = max_non_finite_sequences
        self.before_pass: list[Callable[[], None]] = []
        self.max_norm: float | None = None
        self.dropped_rows = 0
        self.non_finite_sequences = 0
        self.language_model_seconds = 0.0
        self._block: int | None = None
        self._dropped_in_block = 0
        self._rows = torch.empty(len(self.lanes), rows, model.d_in, dtype=model.dtype, device=self.device)
        self._order = torch.empty(len(self.lanes), rows, dtype=torch.long, device=self.device)
        self._permutation = lru_cache(maxsize=2)(self._epoch_permutation)

    @property
    def steps_per_block(self) -> int:
        """Steps in which at least the rows of one block are served."""
        return -(-self._rows.shape[1] // self.layout.rows_per_step)

    @property
    def shuffle_window(self) -> int:
        """Rows, over all ranks, among which a row is shuffled."""
        return self.layout.lanes * self._rows.shape[1]

    def __iter__(self) -> Iterator[ActivationBatch]:
        return (self.batch(step) for step in count(self.position()))

    def batch(self, step: int) -> ActivationBatch:
        """This rank's rows of one step."""
        pieces = []
        for block, part in self._parts(step):
            buffer = self.load_block(block)
            pieces.append(torch.stack([rows[order[part]] for rows, order in zip(buffer, self._order, strict=True)]))
        rows = torch.cat(pieces, dim=1).flatten(0, 1)
        return ActivationBatch(rows, step, self.lanes, step * self.layout.rows_per_step)

    def origin(self, step: int) -> tuple[list[int], Int[Tensor, " batch"]]:
        """The blocks that `batch(step)` is of, and the sequence that each of its rows is of."""
        per_sequence = self._rows.shape[1] // self.layout.sequences_per_lane
        blocks, pieces = [], []
        for block, part in self._parts(step):
            self.load_block(block)
            numbers = [self.lane_sequences(block, lane) for lane in self.lanes]
            orders = self._order[:, part].cpu()
            pieces.append(torch.stack([n[order // per_sequence] for n, order in zip(numbers, orders, strict=True)]))
            blocks.append(block)
        return blocks, torch.cat(pieces, dim=1).flatten()

    def _parts(self, step: int) -> Iterator[tuple[int, slice]]:
        """The blocks of which a step takes rows, and which part of their shuffled rows."""
        per_block = self._rows.shape[1]
        row, end = step * self.layout.rows_per_step, (step + 1) * self.layout.rows_per_step
        while row < end:
            block, start = divmod(row, per_block)
            stop = min(per_block, start + end - row)
            yield block, slice(start, stop)
            row += stop - start

    def load_block(self, block: int) -> Float[Tensor, "lanes rows d_in"]:
        """Fill the buffer with this rank's lanes of a block, unless it holds them already."""
        if block != self._block:
            start = time.perf_counter()
            self._block = None
            self._dropped_in_block = 0
            for slot, lane in enumerate(self.lanes):
                self._fill_lane(slot, block, lane)
                self._shuffle_lane(slot, block, lane)
            self._block = block
            self.language_model_seconds += time.perf_counter() - start
        return self._rows

    def leave_out_above(self, max_norm: float | None) -> None:
        """Leave out rows of a larger norm from now on, in the block at hand too; None: as `max_norm_ratio` says."""
        self.max_norm = max_norm
        if self._block is not None:
            self.dropped_rows -= self._dropped_in_block
            self._dropped_in_block = 0
            for slot, lane in enumerate(self.lanes):
                self._shuffle_lane(slot, self._block, lane)

    def finite_rows(self, block: int) -> Iterator[Float[Tensor, "rows d_in"]]:
        """The rows of a block that are finite, one of this rank's lanes after the other."""
        return (rows[rows.isfinite().all(-1)] for rows in self.load_block(block))

    def kept_rows(self, block: int) -> Iterator[Float[Tensor, "rows d_in"]]:
        """The rows of a block that are served, one of this rank's lanes after the other."""
        return (rows[self._kept(rows)] for rows in self.load_block(block))

    def lane_sequences(self, block: int, lane: int) -> Int[Tensor, " sequences"]:
        """The sequences of one lane of a block."""
        start = block * self.layout.block_sequences + lane * self.layout.sequences_per_lane
        epoch, offset = divmod(start, len(self.sequences))
        taken = self._permutation(epoch)[offset : offset + self.layout.sequences_per_lane]
        missing = self.layout.sequences_per_lane - len(taken)
        return torch.cat([taken, self._permutation(epoch + 1)[:missing]]) if missing else taken

    def _epoch_permutation(self, epoch: int) -> Int[Tensor, " num_sequences"]:
        return torch.randperm(len(self.sequences), generator=generator("cpu", "epoch", self.layout.seed, epoch))

    def _fill_lane(self, slot: int, block: int, lane: int) -> None:
        start = 0
        for chunk in self.lane_sequences(block, lane).split(self.layout.lm_batch_sequences):
            for hook in self.before_pass:
                hook()
            activations = self._activations(chunk, block)
            self._rows[slot, start : start + len(activations)] = activations
            start += len(activations)

    def _shuffle_lane(self, slot: int, block: int, lane: int) -> None:
        kept, rows = self._kept(self._rows[slot]), self._rows.shape[1]
        if len(kept) == 0:
            if self._rows[slot].isfinite().all(-1).any():
                raise InputError(
                    f"data.max_norm_ratio is {self.layout.max_norm_ratio}: it leaves nothing of block {block}, "
                    f"lane {lane}; raise it, or set it to null to keep all activations."
                )
            raise InputError(f"no activation of block {block}, lane {lane} is finite: {OVERFLOW}")
        shuffle = torch.randperm(len(kept), generator=generator("cpu", "rows", self.layout.seed, block, lane))
        order = kept[shuffle.to(self.device)]
        # A lane always serves the same number of rows: what was left out is replaced by repetition.
        self._order[slot] = order.repeat(-(-rows // len(order)))[:rows]
        self._dropped_in_block += rows - len(kept)
        self.dropped_rows += rows - len(kept)

    def _activations(self, chunk: Int[Tensor, " sequences"], block: int) -> Float[Tensor, "rows d_in"]:
        tokens = token_tensor(self.sequences, chunk).to(self.device)
        activations = self.model.activations(tokens)[:, self.layout.drop_positions :]
        if bad := sequences_not_finite(activations, chunk):
            self.non_finite_sequences += len(bad)
            warnings.warn(
                f"activations that are not finite in block {block}, sequences {bad[:8]}: left out of training "
                f"({self.non_finite_sequences} sequences so far). {OVERFLOW}",
                stacklevel=2,
            )
            if self.non_finite_sequences > self.max_non_finite_sequences:
                raise InputError(
                    f"max_non_finite_sequences is {self.max_non_finite_sequences}, and block {block}, sequences "
                    f"{bad[:8]} brought more: {OVERFLOW}"
                )
        return activations.flatten(0, 1)

    def _kept(self, rows: Float[Tensor, "rows d_in"]) -> Int[Tensor, " kept"]:
        """Which rows are served: finite ones, and none whose norm is out of proportion."""
        norms = rows.float().norm(dim=-1)
        kept = norms.isfinite()
        if self.max_norm is not None:
            kept &= norms <= self.max_norm
        elif self.layout.max_norm_ratio is not None:
            kept &= norms <= self.layout.max_norm_ratio * norms.where(kept, torch.nan).nanmedian()
        return kept.nonzero().squeeze(-1)


def sequences_not_finite(
    activations: Float[Tensor, "sequences position d_in"], chunk: Int[Tensor, " sequences"]
) -> list[int]:
    """The numbers of the sequences of `chunk` of which an activation is not finite."""
    finite = activations.isfinite().flatten(1).all(1).cpu()
    return [] if bool(finite.all()) else chunk[~finite].tolist()


def token_tensor(sequences: Sequences, chunk: Int[Tensor, " sequences"]) -> Int[Tensor, "sequences position"]:
    return torch.from_numpy(sequences[chunk.numpy()].astype(np.int64))


def spread(sequences: Sequences, rows: int, drop_positions: int, least: int = 1) -> Sequences:
    """As many sequences as have so many rows, `least` at least, evenly spread over the text."""
    per_sequence = max(1, sequences.shape[1] - drop_positions)
    wanted = min(len(sequences), max(-(-rows // per_sequence), least))
    return sequences[:: max(1, len(sequences) // max(1, wanted))][:wanted]

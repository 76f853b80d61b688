"""Shuffled activations for training; the rows of a step are a function of the seed and the step alone.

Block: `block_sequences` sequences, drawn by a seeded permutation of the whole corpus.
Lane: a fixed slice of every block, with its own shuffle. A step takes equal numbers of rows of every
lane; rank r serves lanes r, r + W, r + 2W, ..., so that W changes nothing but who computes what.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from vsae_lightning.batches import ActivationBatch, HeldOutBatch
from vsae_lightning.errors import InputError
from vsae_lightning.seeding import generator

Sequences = NDArray[np.unsignedinteger[Any]]


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
        max_norm_ratio: Leave out rows whose norm is more than so many times their lane's median; None: keep all.
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

    def require_a_step(self, context_length: int) -> None:
        """Raise `InputError` where a block is smaller than a step."""
        if (rows := self.rows_per_block(context_length)) < self.rows_per_step:
            raise InputError(
                f"a block has {rows * self.lanes} rows, fewer than batch_size {self.batch_size}; raise block_sequences."
            )


class ActivationStream:
    """Iterates over `ActivationBatch` for ever.

    Args:
        model: The language model, loaded on `device`.
        sequences: The token store.
        layout: Sizes and seed.
        device: Where activations are kept.
        rank: Of this process.
        world_size: Number of processes.
        position: The step at which an iteration begins, asked anew each time.

    Raises:
        InputError: The corpus is smaller than a block, a block smaller than a step, or the lanes cannot
            be shared out.
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
        layout.require_a_step(context_length)
        self.model = model
        self.sequences = sequences
        self.layout = layout
        self.device = torch.device(device)
        self.lanes = tuple(range(rank, layout.lanes, world_size))
        self.steps_per_block = rows // layout.rows_per_step
        self.blocks_per_epoch = num_sequences // layout.block_sequences
        self.position = position
        self.dropped_rows = 0
        self.language_model_seconds = 0.0
        self._block: int | None = None
        self._rows = torch.empty(len(self.lanes), rows, model.d_in, dtype=model.dtype, device=self.device)
        self._order = torch.empty(len(self.lanes), rows, dtype=torch.long, device=self.device)

    @property
    def shuffle_window(self) -> int:
        """Rows, over all ranks, among which a row is shuffled."""
        return self.layout.lanes * self._rows.shape[1]

    def __iter__(self) -> Iterator[ActivationBatch]:
        return (self.batch(step) for step in count(self.position()))

    def batch(self, step: int) -> ActivationBatch:
        """This rank's rows of one step."""
        block, index = divmod(step, self.steps_per_block)
        self.load_block(block)
        rows = slice(index * self.layout.rows_per_step, (index + 1) * self.layout.rows_per_step)
        parts = [lane_rows[order[rows]] for lane_rows, order in zip(self._rows, self._order, strict=True)]
        return ActivationBatch(torch.cat(parts), step, self.lanes)

    def load_block(self, block: int) -> Float[Tensor, "lanes rows d_in"]:
        """Fill the buffer with this rank's lanes of a block, unless it holds them already."""
        if block != self._block:
            start = time.perf_counter()
            self._block = None
            for slot, lane in enumerate(self.lanes):
                self._fill_lane(slot, block, lane)
            self._block = block
            self.language_model_seconds += time.perf_counter() - start
        return self._rows

    def kept_rows(self, block: int) -> Iterator[Float[Tensor, "rows d_in"]]:
        """The rows of a block that are served, one of this rank's lanes after the other."""
        return (rows[self._kept(rows)] for rows in self.load_block(block))

    def lane_sequences(self, block: int, lane: int) -> Int[Tensor, " sequences"]:
        """The sequences of one lane of a block."""
        epoch, index = divmod(block, self.blocks_per_epoch)
        shuffle = generator("cpu", "epoch", self.layout.seed, epoch)
        permutation = torch.randperm(len(self.sequences), generator=shuffle)
        start = index * self.layout.block_sequences + lane * self.layout.sequences_per_lane
        return permutation[start : start + self.layout.sequences_per_lane]

    def _fill_lane(self, slot: int, block: int, lane: int) -> None:
        start = 0
        for chunk in self.lane_sequences(block, lane).split(self.layout.lm_batch_sequences):
            activations = self._activations(chunk, block)
            self._rows[slot, start : start + len(activations)] = activations
            start += len(activations)
        kept = self._kept(self._rows[slot])
        shuffle = torch.randperm(len(kept), generator=generator("cpu", "rows", self.layout.seed, block, lane))
        order = kept[shuffle.to(self.device)]
        # A lane always serves the same number of rows: what was left out is replaced by repetition.
        self._order[slot] = order.repeat(-(-start // len(order)))[:start]
        self.dropped_rows += start - len(kept)

    def _activations(self, chunk: Int[Tensor, " sequences"], block: int) -> Float[Tensor, "rows d_in"]:
        tokens = token_tensor(self.sequences, chunk).to(self.device)
        activations = self.model.activations(tokens)[:, self.layout.drop_positions :]
        _require_finite(activations, chunk, f"block {block}")
        return activations.flatten(0, 1)

    def _kept(self, rows: Float[Tensor, "rows d_in"]) -> Int[Tensor, " kept"]:
        if self.layout.max_norm_ratio is None:
            return torch.arange(len(rows), device=self.device)
        norms = rows.float().norm(dim=-1)
        return (norms <= self.layout.max_norm_ratio * norms.median()).nonzero().squeeze(-1)


class HeldOutActivations:
    """Iterates over `HeldOutBatch`: whole sequences, in order, each rank its share.

    Position 0 (and every further of `drop_positions`) is left out, as in training.
    """

    def __init__(
        self,
        model: ActivationSource,
        sequences: Sequences,
        layout: StreamLayout,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.model = model
        self.sequences = sequences
        self.drop_positions = layout.drop_positions
        self.device = torch.device(device)
        if len(sequences) < world_size:
            raise InputError(
                f"there are only {len(sequences)} sequences to evaluate, fewer than the {world_size} ranks."
            )
        # The same number of chunks for every rank, and none empty: ranks wait for each other after every batch.
        per_rank = -(-len(sequences) // (layout.lm_batch_sequences * world_size))
        chunks = min(per_rank, len(sequences) // world_size) * world_size
        self.chunks = torch.arange(len(sequences)).tensor_split(chunks)[rank::world_size]

    def __len__(self) -> int:
        return len(self.chunks)

    def __iter__(self) -> Iterator[HeldOutBatch]:
        for chunk in self.chunks:
            tokens = token_tensor(self.sequences, chunk).to(self.device)
            activations = self.model.activations(tokens)
            _require_finite(activations[:, self.drop_positions :], chunk, "the held-out text")
            positions = torch.arange(tokens.shape[1], device=self.device).expand_as(tokens)
            sequences = chunk.to(self.device)[:, None].expand_as(tokens)
            kept = (x[:, self.drop_positions :].flatten(0, 1) for x in (activations, tokens, positions, sequences))
            yield HeldOutBatch(*kept)


def _require_finite(
    activations: Float[Tensor, "sequences position d_in"], chunk: Int[Tensor, " sequences"], place: str
) -> None:
    if not activations.isfinite().all():
        finite = activations.isfinite().flatten(1).all(1).cpu()
        raise InputError(
            f"activations that are not finite in {place}, sequences {chunk[~finite].tolist()[:8]}: "
            "the model overflows in this dtype, or its weights are damaged; try --data.dtype float32."
        )


def token_tensor(sequences: Sequences, chunk: Int[Tensor, " sequences"]) -> Int[Tensor, "sequences position"]:
    return torch.from_numpy(sequences[chunk.numpy()].astype(np.int64))

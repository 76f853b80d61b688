"""Activations of held-out sequences, in order."""

import warnings
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vsae_lightning.batches import HeldOutBatch
from vsae_lightning.data.stream import (
    OVERFLOW,
    ActivationSource,
    Sequences,
    StreamLayout,
    sequences_not_finite,
    token_tensor,
)
from vsae_lightning.errors import InputError


class HeldOutActivations:
    """Iterates over `HeldOutBatch`: whole sequences, in order, each rank its share.

    Position 0 (and every further of `drop_positions`) is left out, as in training; so is what is not finite.

    Args:
        model: The language model, loaded on `device`.
        sequences: What is read.
        layout: Sizes.
        device: Where activations are kept.
        rank: Of this process.
        world_size: Number of processes.
        max_norm: Rows of a larger norm, which training leaves out, are in `left_out` of a batch; None: there are none.
    """

    def __init__(
        self,
        model: ActivationSource,
        sequences: Sequences,
        layout: StreamLayout,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        max_norm: float | None = None,
    ) -> None:
        self.model = model
        self.sequences = sequences
        self.drop_positions = layout.drop_positions
        self.max_norm = max_norm
        self.device = torch.device(device)
        if len(sequences) < world_size:
            raise InputError(
                f"there are only {len(sequences)} sequences to evaluate, fewer than the {world_size} ranks."
            )
        # The same number of chunks for every rank, and none empty: ranks wait for each other after every batch. The
        # chunks of the lanes, which the ranks share out, are the same on every number of ranks.
        shares = layout.lanes if len(sequences) >= layout.lanes else world_size
        per_share = -(-len(sequences) // (layout.lm_batch_sequences * shares))
        chunks = min(per_share, len(sequences) // shares) * shares
        self.chunks = torch.arange(len(sequences)).tensor_split(chunks)[rank::world_size]

    def __len__(self) -> int:
        return len(self.chunks)

    def tokens(self) -> Iterator[Int[Tensor, "sequences position"]]:
        """The sequences of every chunk, all positions of them."""
        for chunk in self.chunks:
            yield token_tensor(self.sequences, chunk).to(self.device)

    def __iter__(self) -> Iterator[HeldOutBatch]:
        for chunk, tokens in zip(self.chunks, self.tokens(), strict=True):
            activations = self.model.activations(tokens)[:, self.drop_positions :]
            positions = torch.arange(tokens.shape[1], device=self.device).expand_as(tokens)
            sequences = chunk.to(self.device)[:, None].expand_as(tokens)
            beside = (x[:, self.drop_positions :].flatten(0, 1) for x in (tokens, positions, sequences))
            rows = activations.flatten(0, 1)
            batch = HeldOutBatch(rows, *beside, left_out=rows[:0])
            yield self._within(self._finite(batch, sequences_not_finite(activations, chunk)))

    def _within(self, batch: HeldOutBatch) -> HeldOutBatch:
        """The batch with the rows of too large a norm apart."""
        if self.max_norm is None:
            return batch
        kept = batch.activations.float().norm(dim=-1) <= self.max_norm
        return _rows(batch, kept)._replace(left_out=batch.activations[~kept])

    def _finite(self, batch: HeldOutBatch, bad: list[int]) -> HeldOutBatch:
        if not bad:
            return batch
        finite = batch.activations.isfinite().all(-1)
        if not finite.any():
            raise InputError(f"no activation of the held-out sequences {bad[:8]} is finite: {OVERFLOW}")
        warnings.warn(
            f"activations that are not finite in the held-out sequences {bad[:8]}: left out. {OVERFLOW}", stacklevel=2
        )
        return _rows(batch, finite)


def _rows(batch: HeldOutBatch, chosen: Bool[Tensor, " batch"]) -> HeldOutBatch:
    activations, token_ids, positions, sequences, left_out = batch
    return HeldOutBatch(activations[chosen], token_ids[chosen], positions[chosen], sequences[chosen], left_out)

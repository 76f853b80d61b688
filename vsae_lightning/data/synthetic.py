"""Activations of a known dictionary, so that what an autoencoder finds can be held against the truth."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import count
from typing import Any

import torch
from jaxtyping import Float, Int
from lightning.pytorch import LightningDataModule
from torch import Tensor

from vsae_lightning.batches import ActivationBatch, SyntheticBatch
from vsae_lightning.data.ground_truth import FeatureLaw, KnownDictionary
from vsae_lightning.data.position import require_an_end, require_same_layout, steps_consumed
from vsae_lightning.data.statistics import InputScaling, InputStatistics, ScaleTo
from vsae_lightning.errors import InputError
from vsae_lightning.seeding import GRANULE_ROWS, generator, global_seed, granules

CHUNK_ROWS = 1024


class SyntheticDataModule(LightningDataModule):
    """Activations x = codes @ dictionary + noise, drawn afresh for every step; held-out rows come with their codes.

    All sizes count over all ranks. The rows of step t, lane l are a function of (seed, t, l) alone, and the
    position in the stream is one integer, the steps consumed. Row n of a lane is the same for every batch size.

    Args:
        d_in: Width of the activations.
        num_features: True features: rows of the dictionary, in random directions, or in `clusters` of them.
        mean_active: Expected number of active features per row.
        zipf_exponent: The r-th most common feature fires with probability min(0.5, c r^-zipf_exponent), with
            c such that the probabilities sum to mean_active; 0: all alike. Every feature fires exactly so
            often, whatever structure it is in.
        norm_spread: Standard deviation of the log norm of the features; 0: all of norm 1.
        magnitude_spread: Strengths are uniform in 1 +- magnitude_spread.
        correlated_pairs: Pairs of features, of neighbouring frequency, that tend to fire together.
        pair_correlation: Phi coefficient of the two firings of a pair.
        hierarchies: Parents, each with children of its own that fire only where it does.
        children_per_parent: Children of each of the `hierarchies`.
        exclusive_sets: Sets of features of which at most one fires.
        exclusive_set_size: Features of each of the `exclusive_sets`.
        noise_std: Standard deviation of the isotropic Gaussian noise, per coordinate.
        clusters: Clusters of directions, that all features are shared out to; 0: none, every direction is independent.
            When they fire has nothing to do with it.
        cluster_spread: How far a feature's direction is from that of its cluster: the length of its own part, that of
            the shared part being 1; two features of a cluster have a cosine of about 1 / (1 + cluster_spread^2).
        batch_size: Rows per step.
        lanes: Independent parts of a step; the number of ranks divides it.
        validation_rows: Held-out rows that `validate` reads, and of which `predict` writes the latents.
        test_rows: Held-out rows that `test` reads; none is among those of `validate`.
        scale_to: Scale activations by one number so that E||x||^2 is d_in, or one.
        center: Subtract the mean of the activations first.
        seed: Of the dictionary and of all rows; None: that of `seed_everything`.

    Raises:
        InputError: An option out of its range, or sizes that do not fit together.
    """

    def __init__(
        self,
        d_in: int,
        num_features: int,
        mean_active: float,
        zipf_exponent: float = 0.0,
        norm_spread: float = 0.0,
        magnitude_spread: float = 0.0,
        correlated_pairs: int = 0,
        pair_correlation: float = 0.5,
        hierarchies: int = 0,
        children_per_parent: int = 2,
        exclusive_sets: int = 0,
        exclusive_set_size: int = 2,
        noise_std: float = 0.0,
        clusters: int = 0,
        cluster_spread: float = 0.5,
        batch_size: int = 1024,
        lanes: int = 8,
        validation_rows: int = 16_384,
        test_rows: int = 65_536,
        scale_to: ScaleTo = "d_in",
        center: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        law = FeatureLaw(
            d_in,
            num_features,
            mean_active,
            zipf_exponent,
            norm_spread,
            magnitude_spread,
            correlated_pairs,
            pair_correlation,
            hierarchies,
            children_per_parent,
            exclusive_sets,
            exclusive_set_size,
            noise_std,
            clusters,
            cluster_spread,
        )
        _require_rows(lanes, batch_size=batch_size, validation_rows=validation_rows, test_rows=test_rows)
        self.seed = global_seed() if seed is None else seed
        self.truth = KnownDictionary(law, self.seed)
        self.batch_size = batch_size
        self.lanes = lanes
        self.validation_rows = validation_rows
        self.test_rows = test_rows
        self.scale_to: ScaleTo = scale_to
        self.center = center
        self.statistics: InputStatistics | None = None

    @property
    def d_in(self) -> int:
        """Width of the activations."""
        return self.truth.law.d_in

    @property
    def dictionary(self) -> Float[Tensor, "num_features d_in"]:
        """The true features, direction times norm, in the units of the activations."""
        return self.truth.dictionary

    @property
    def parents(self) -> Int[Tensor, " num_features"]:
        """The parent of every true feature, -1 where it has none."""
        return self.truth.parents

    @property
    def frequencies(self) -> Float[Tensor, " num_features"]:
        """The probability that each true feature fires in a row."""
        return self.truth.frequencies

    def setup(self, stage: str) -> None:
        require_an_end(self.trainer)

    def train_dataloader(self) -> "SyntheticStream":
        assert self.trainer is not None
        position = partial(steps_consumed, self.trainer)
        return SyntheticStream(self.truth, self.batch_size, self.lanes, self.seed, *self._place(), position)

    def val_dataloader(self) -> "HeldOutRows":
        return self._held_out("synthetic-held-out", self.validation_rows)

    def test_dataloader(self) -> "HeldOutRows":
        return self._held_out("synthetic-test", self.test_rows)

    def predict_dataloader(self) -> "HeldOutRows":
        return self.val_dataloader()

    def training_rows(self, rows: int) -> Iterator[Float[Tensor, "_ d_in"]]:
        """This rank's share of at least so many training rows, in some parts; no step is consumed."""
        stream = SyntheticStream(self.truth, self.batch_size, self.lanes, self.seed, *self._place())
        return (stream.batch(step).activations for step in range(-(-rows // self.batch_size)))

    def input_statistics(self) -> InputScaling:
        """The scaling of the activations, exact; equal on all ranks."""
        self.statistics = self.truth.statistics()
        return self.statistics.scaling(self.scale_to, self.center)

    def state_dict(self) -> dict[str, Any]:
        """The position: training steps consumed. It is the same on every rank, so rank 0's serves all."""
        assert self.trainer is not None
        return {"steps": steps_consumed(self.trainer), "layout": self._layout()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The trainer restores the count of steps; here the steps must mean the same rows as before.

        Raises:
            InputError: Training goes on with another dictionary, other sizes or another seed.
        """
        assert self.trainer is not None
        given = self._layout()
        # A checkpoint from before there were clusters has none, and does not tell its scaling.
        absent = {"clusters": 0, **{name: given[name] for name in ("cluster_spread", "scale_to", "center")}}
        saved = absent | state_dict["layout"]
        require_same_layout(self.trainer, saved, given)

    def _layout(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("batch_size", "lanes", "seed", "scale_to", "center")}
        return {**asdict(self.truth.law), **own}

    def _held_out(self, purpose: str, rows: int) -> "HeldOutRows":
        return HeldOutRows(self.truth, purpose, rows, self.lanes, self.seed, *self._place())

    def _place(self) -> tuple[torch.device, int, int]:
        assert self.trainer is not None
        return self.trainer.strategy.root_device, self.trainer.global_rank, self.trainer.world_size


class SyntheticStream:
    """Iterates over `ActivationBatch` for ever: rank r draws the rows of lanes r, r + W, r + 2W, ...

    Args:
        truth: What the rows are made of.
        batch_size: Rows per step, over all ranks.
        lanes: Independent parts of a step; the number of ranks divides it.
        seed: Of the rows.
        device: Where activations go; they are drawn on the CPU, so that no device changes them.
        rank: Of this process.
        world_size: Number of processes.
        position: The step at which an iteration begins, asked anew each time.

    Raises:
        InputError: The lanes cannot be shared out.
    """

    def __init__(
        self,
        truth: KnownDictionary,
        batch_size: int,
        lanes: int,
        seed: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        position: Callable[[], int] = lambda: 0,
    ) -> None:
        _require_shared(lanes, world_size)
        self.truth = truth
        self.rows_per_lane = batch_size // lanes
        self.seed = seed
        self.device = device
        self.lanes = tuple(range(rank, lanes, world_size))
        self.position = position

    def __iter__(self) -> Iterator[ActivationBatch]:
        return (self.batch(step) for step in count(self.position()))

    def batch(self, step: int) -> ActivationBatch:
        """This rank's rows of one step."""
        first_row = step * self.rows_per_lane
        parts = [part for lane in self.lanes for part in self._rows(lane, first_row)]
        return ActivationBatch(torch.cat(parts).to(self.device), step, self.lanes, first_row)

    def _rows(self, lane: int, first_row: int) -> Iterator[Float[Tensor, "rows d_in"]]:
        for granule, wanted, _ in granules(first_row, self.rows_per_lane):
            chance = generator("cpu", "synthetic", self.seed, lane, granule)
            yield self.truth.draw(GRANULE_ROWS, chance)[0][wanted]


class HeldOutRows:
    """Iterates over `SyntheticBatch`: `rows` rows in chunks of at most 1024, each rank an equal number of chunks.

    The chunks are a multiple of the lanes, so that their rows do not depend on the number of ranks.

    Args:
        truth: What the rows are made of.
        purpose: Names the stream of random numbers, which differs from that of training.
        rows: Over all ranks.
        lanes: The number of ranks divides them.
        seed: Of the rows.
        device: Where batches go.
        rank: Of this process.
        world_size: Number of processes.

    Raises:
        InputError: The lanes cannot be shared out.
    """

    def __init__(
        self,
        truth: KnownDictionary,
        purpose: str,
        rows: int,
        lanes: int,
        seed: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _require_shared(lanes, world_size)
        self.truth = truth
        self.purpose = purpose
        self.seed = seed
        self.device = device
        chunks = lanes * -(-rows // (lanes * CHUNK_ROWS))
        each, larger = divmod(rows, chunks)
        self.chunks = [(chunk, each + (chunk < larger)) for chunk in range(rank, chunks, world_size)]

    def __len__(self) -> int:
        return len(self.chunks)

    def __iter__(self) -> Iterator[SyntheticBatch]:
        for chunk, rows in self.chunks:
            drawn = self.truth.draw(rows, generator("cpu", self.purpose, self.seed, chunk))
            yield SyntheticBatch(*(part.to(self.device) for part in drawn))


def _require_rows(lanes: int, batch_size: int, **held_out: int) -> None:
    if lanes < 1:
        raise InputError(f"lanes is {lanes}; it must be at least 1.")
    if batch_size < 1 or batch_size % lanes:
        raise InputError(f"batch_size is {batch_size}; it must be a multiple of lanes, {lanes}.")
    for name, rows in held_out.items():
        if rows < lanes:
            raise InputError(f"{name} is {rows}; it must be at least one for each of the {lanes} lanes.")


def _require_shared(lanes: int, world_size: int) -> None:
    if lanes % world_size:
        raise InputError(f"lanes is {lanes}; it must be a multiple of the {world_size} ranks.")

import math
from collections import Counter
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vsae_lightning.batches import ActivationBatch
from vsae_lightning.data.stream import (
    ActivationStream,
    HeldOutActivations,
    Sequences,
    StreamLayout,
    token_tensor,
)
from vsae_lightning.errors import InputError

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


# ------------------------------------------------- what a block and a step are


def test_a_block_serves_every_row_once() -> None:
    batches = take(stream(), 4)
    rows = [row for batch in batches for row in rows_of(batch.activations)]
    sequences = {row.sequence for row in rows}
    assert len(sequences) == 8
    assert Counter(rows) == Counter(Row(sequence, position) for sequence in sequences for position in range(CONTEXT))
    assert [batch.step for batch in batches] == [0, 1, 2, 3]


def test_rows_that_fill_no_step_are_left_out() -> None:
    source = stream(batch_size=20)  # 5 of a lane's 12 rows per step: two steps and 2 rows left
    first, second, third = (
        [Counter(rows_of(batch.activations)) for batch in take(source, 2, start)] for start in (0, 2, 4)
    )
    assert source.steps_per_block == 2
    for block in (first, second, third):
        rows = block[0] + block[1]
        assert rows.total() == len(rows) == 40
        assert {row.sequence for row in rows} <= set(range(20))
        assert len({row.sequence for row in rows}) == 8


def test_a_step_takes_equal_numbers_of_rows_of_every_lane() -> None:
    source = stream()
    for batch in take(source, 8):
        assert batch.lanes == (0, 1, 2, 3)
        block = batch.step // 4
        for lane, part in enumerate(batch.activations.split(3)):
            owned = set(source.lane_sequences(block, lane).tolist())
            assert {row.sequence for row in rows_of(part)} <= owned


def test_the_rows_of_a_lane_are_shuffled_over_all_its_sequences() -> None:
    source = stream(num_sequences=64, block_sequences=64, lanes=1, batch_size=64 * CONTEXT)
    rows = rows_of(take(source, 1)[0].activations)
    assert rows != sorted(rows)
    # Of 384 rows, 5/6 are followed by a row of the same sequence before shuffling, and 5 of 383 after it.
    neighbours = sum(one.sequence == other.sequence for one, other in pairwise(rows))
    assert neighbours < 20


def test_the_shuffle_window_is_the_rows_of_a_block() -> None:
    assert stream().shuffle_window == 8 * CONTEXT
    assert stream(drop_positions=2).shuffle_window == 8 * (CONTEXT - 2)
    assert stream(world=2).shuffle_window == 4 * CONTEXT * 2


def test_the_language_model_sees_every_sequence_of_a_block_once() -> None:
    sources = [stream(rank=rank, world=2) for rank in range(2)]
    for source in sources:
        take(source, 4)
    seen = [first // CONTEXT for source in sources for first in source.model.seen]
    assert len(seen) == len(set(seen)) == 8
    take(sources[0], 1, start=4)
    assert len(sources[0].model.seen) == 8


@pytest.mark.parametrize("lm_batch_sequences", [1, 2, 3, 100])
def test_rows_do_not_depend_on_how_many_sequences_the_model_takes_at_once(lm_batch_sequences: int) -> None:
    for batch, other in zip(take(stream(), 10), take(stream(lm_batch_sequences=lm_batch_sequences), 10), strict=True):
        assert torch.equal(batch.activations, other.activations)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_keep_the_dtype_of_the_model(dtype: torch.dtype) -> None:
    source = ActivationStream(Positions(dtype), numbered(8), layout())
    assert take(source, 1)[0].activations.dtype == dtype


def test_a_batch_is_not_overwritten_by_the_next_block() -> None:
    source = stream()
    batch = source.batch(0)
    kept = batch.activations.clone()
    source.batch(4)
    assert torch.equal(batch.activations, kept)


def test_a_block_asked_for_twice_is_computed_once() -> None:
    source = stream()
    rows = source.load_block(1)
    assert rows.shape == (4, 2 * CONTEXT, 2)
    before = list(source.model.seen)
    assert source.load_block(1) is rows
    source.batch(4)
    assert source.model.seen == before
    for lane in range(4):
        expected = numbered(20)[source.lane_sequences(1, lane).numpy()].ravel()
        assert rows[lane, :, 0].tolist() == expected.tolist()


# ------------------------------------------------------------------- epochs


def test_an_epoch_takes_every_sequence_at_most_once() -> None:
    source = stream(num_sequences=20)  # two blocks of 8, and 4 sequences that wait for another epoch
    epochs = [
        [source.lane_sequences(2 * epoch + block, lane).tolist() for block in range(2) for lane in range(4)]
        for epoch in range(4)
    ]
    for epoch in epochs:
        drawn = [sequence for lane in epoch for sequence in lane]
        assert len(set(drawn)) == len(drawn) == 16
        assert set(drawn) <= set(range(20))
    assert len({str(epoch) for epoch in epochs}) == 4
    assert {sequence for epoch in epochs for lane in epoch for sequence in lane} == set(range(20))


def test_an_epoch_of_whole_blocks_takes_every_sequence_once() -> None:
    batches = take(stream(num_sequences=24), 3 * 4)
    rows = Counter(row for batch in batches for row in rows_of(batch.activations))
    assert rows == Counter(Row(sequence, position) for sequence in range(24) for position in range(CONTEXT))


def test_an_epoch_is_a_permutation_in_which_places_are_equally_likely() -> None:
    # Over 300 epochs, how often each of 8 sequences is in the first lane, of 2: 75 times, standard deviation 7.5.
    source = stream(num_sequences=8)
    counts = Counter(sequence for epoch in range(300) for sequence in source.lane_sequences(epoch, 0).tolist())
    assert all(75 - 4 * 7.5 < counts[sequence] < 75 + 4 * 7.5 for sequence in range(8))


# --------------------------------------------- a function of (seed, step) alone


FIRST_ROWS = [(19, 0), (19, 1), (6, 2), (17, 4), (11, 4), (11, 0), (1, 2), (15, 1), (1, 0), (2, 0), (2, 2), (10, 4)]
LATER_ROWS = [(11, 0), (14, 2), (11, 5), (12, 2), (16, 1), (16, 2), (15, 3), (1, 0), (1, 5), (17, 3), (18, 1), (17, 2)]


def test_the_first_rows_are_those_of_every_version() -> None:
    # Written down, for a run that is resumed under another version must see the same rows.
    assert rows_of(stream().batch(0).activations) == FIRST_ROWS
    assert rows_of(stream().batch(1001).activations) == LATER_ROWS


@pytest.mark.parametrize("seed", [1, 2, 12345678901])
def test_another_seed_is_another_order(seed: int) -> None:
    one, same, other = (rows_of(stream(seed=number).batch(0).activations) for number in (0, 0, seed))
    assert one == same
    assert one != other


def test_blocks_and_lanes_are_shuffled_differently() -> None:
    source = stream(num_sequences=8)
    orders = []
    for block in range(5):
        source.load_block(block)
        orders += [str(order.tolist()) for order in source._order]
    assert len(set(orders)) == 20


@pytest.mark.parametrize("start_step", [0, 1, 3, 4, 5, 7, 8, 9, 17, 400, 403])
def test_a_stream_resumed_at_any_step_is_the_uninterrupted_one(start_step: int) -> None:
    uninterrupted = stream()
    batches = [uninterrupted.batch(step) for step in range(start_step + 10)][start_step:]
    for expected, batch in zip(batches, take(stream(), 10, start_step), strict=True):
        assert batch.step == expected.step
        assert batch.lanes == expected.lanes
        assert torch.equal(batch.activations, expected.activations)


def test_steps_may_be_asked_for_in_any_order() -> None:
    in_order = {batch.step: batch.activations for batch in take(stream(), 20)}
    source = stream()
    for step in (19, 0, 7, 7, 12, 3):
        assert torch.equal(source.batch(step).activations, in_order[step])


def test_iterating_again_starts_again() -> None:
    source = stream()
    source.position = lambda: 3
    assert [batch.step for batch in islice(source, 2)] == [batch.step for batch in islice(source, 2)] == [3, 4]


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_ranks_together_serve_the_lanes_of_one_rank(world: int) -> None:
    sizes: dict[str, Any] = {"lanes": 8, "batch_size": 16, "block_sequences": 16, "num_sequences": 40}
    alone = take(stream(**sizes), 15)
    ranks = [take(stream(**sizes, rank=rank, world=world), 15) for rank in range(world)]
    for step, whole in enumerate(alone):
        lanes = whole.activations.split(2)
        for rank in range(world):
            batch = ranks[rank][step]
            assert batch.step == step
            assert batch.lanes == tuple(range(8))[rank::world]
            assert torch.equal(batch.activations, torch.cat([lanes[lane] for lane in batch.lanes]))
        together = [row for batches in ranks for row in rows_of(batches[step].activations)]
        assert Counter(together) == Counter(rows_of(whole.activations))


@st.composite
def sizes_that_fit(draw: st.DrawFn) -> dict[str, int]:
    lanes = draw(st.sampled_from([1, 2, 3, 4, 6, 8]))
    context = draw(st.integers(1, 7))
    sequences_per_lane = draw(st.integers(1, 4))
    drop_positions = draw(st.integers(0, context - 1))
    rows = sequences_per_lane * (context - drop_positions)
    return {
        "lanes": lanes,
        "world": draw(st.sampled_from([world for world in (1, 2, 3, 4, 6, 8) if lanes % world == 0])),
        "context": context,
        "drop_positions": drop_positions,
        "block_sequences": sequences_per_lane * lanes,
        "batch_size": draw(st.integers(1, rows)) * lanes,
        "num_sequences": sequences_per_lane * lanes + draw(st.integers(0, 70)),
        "lm_batch_sequences": draw(st.integers(1, 5)),
        "seed": draw(st.integers(0, 2**40)),
        "start": draw(st.integers(0, 60)),
    }


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(sizes_that_fit())
def test_streams_of_any_size_keep_their_promises(sizes: dict[str, int]) -> None:
    start, world = sizes.pop("start"), sizes.pop("world")
    context, lanes, drop = sizes["context"], sizes["lanes"], sizes["drop_positions"]
    rows_per_step = sizes["batch_size"] // lanes
    rows_per_lane = sizes["block_sequences"] // lanes * (context - drop)
    steps_per_block = rows_per_lane // rows_per_step
    # From the start of the block that holds the start step, to the end of the next one.
    block_start = start // steps_per_block * steps_per_block
    alone = take(stream(**sizes), 2 * steps_per_block, block_start)

    ranks = [take(stream(**sizes, rank=rank, world=world), len(alone), block_start) for rank in range(world)]
    resumed = take(stream(**sizes), 1, start)[0]
    assert torch.equal(resumed.activations, alone[start - block_start].activations)

    for index, whole in enumerate(alone):
        assert whole.activations.shape == (sizes["batch_size"], 2)
        by_lane = whole.activations.split(rows_per_step)
        for rank in range(world):
            assert ranks[rank][index].lanes == tuple(range(lanes))[rank::world]
            expected = torch.cat([by_lane[lane] for lane in range(rank, lanes, world)])
            assert torch.equal(ranks[rank][index].activations, expected)

    for batches in (alone[:steps_per_block], alone[steps_per_block:]):
        rows = Counter(row for batch in batches for row in rows_of(batch.activations, context))
        assert rows.total() == len(rows) == steps_per_block * sizes["batch_size"]
        assert {row.position for row in rows} <= set(range(drop, context))
        sequences = [
            {
                row.sequence
                for batch in batches
                for row in rows_of(batch.activations.split(rows_per_step)[lane], context)
            }
            for lane in range(lanes)
        ]
        assert sum(map(len, sequences)) == len(set().union(*sequences))
        assert max(map(len, sequences)) <= sizes["block_sequences"] // lanes
        if steps_per_block * rows_per_step == rows_per_lane:
            assert len({row.sequence for row in rows}) == sizes["block_sequences"]


# ------------------------------------------------------------ what is left out


@pytest.mark.parametrize("drop_positions", [0, 1, 4, 5])
def test_first_positions_are_left_out(drop_positions: int) -> None:
    source = stream(drop_positions=drop_positions, batch_size=4)
    rows = [row for batch in take(source, source.steps_per_block) for row in rows_of(batch.activations)]
    assert source.steps_per_block == 2 * (CONTEXT - drop_positions)
    assert Counter(row.position for row in rows) == dict.fromkeys(range(drop_positions, CONTEXT), 8)


def outlier_stream(
    ratio: float | None, norms: list[float], tokens: list[list[int]], **changes: Any
) -> ActivationStream:
    """A lane per sequence, all rows of which are served by one step."""
    sizes = {"lanes": len(tokens), "block_sequences": len(tokens), "batch_size": sum(map(len, tokens))} | changes
    return ActivationStream(Norms(norms), np.array(tokens, dtype=np.uint16), layout(**sizes, max_norm_ratio=ratio))


def lane_norms(source: ActivationStream, step: int, rows: int) -> dict[int, list[float]]:
    """The sorted norms that a step serves of every sequence, where a sequence is a lane."""
    parts = source.batch(step).activations[:, 0].split(rows)
    block = step // source.steps_per_block
    return {int(source.lane_sequences(block, lane)): sorted(part.tolist()) for lane, part in enumerate(parts)}


def test_outliers_are_replaced_by_repeating_rows_and_counted() -> None:
    # Tokens 1 to 6 have norms 1.1, 1.2, ..., 1.6; token 7 has norm 50.
    norms = [0.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 50.0]
    source = outlier_stream(10.0, norms, [[1, 2, 3, 4, 5, 6], [7, 1, 2, 7, 3, 4], [7, 7, 5, 6, 5, 6]])
    for block in range(3):
        served = lane_norms(source, block, 6)
        assert served[0] == pytest.approx([1.1, 1.2, 1.3, 1.4, 1.5, 1.6])
        counts = Counter(round(norm, 4) for norm in served[1])
        assert set(counts) == {1.1, 1.2, 1.3, 1.4}
        assert sorted(counts.values()) == [1, 1, 2, 2]  # four rows in six places
        assert set(Counter(round(norm, 4) for norm in served[2])) == {1.5, 1.6}
        assert source.dropped_rows == 4 * (block + 1)
        source.batch(block)
        assert source.dropped_rows == 4 * (block + 1)


def test_rows_that_are_repeated_come_after_all_others() -> None:
    source = outlier_stream(10.0, [0.0, 1.0, 1.1, 1.2, 99.0], [[4, 1, 2, 3, 4]] * 2, batch_size=2)
    per_lane = torch.stack([source.batch(step).activations[:, 0] for step in range(5)], dim=1)
    for lane in per_lane:
        assert sorted(lane[:3].tolist()) == pytest.approx([1.0, 1.1, 1.2])
        assert lane[3:].tolist() == lane[:2].tolist()


def test_the_median_is_that_of_the_lane() -> None:
    # Norms 1 in one lane and 100 in the other: outliers of one lane are ordinary rows of the other.
    source = outlier_stream(10.0, [0.0, 1.0, 100.0], [[1, 1, 1, 1, 2], [2, 2, 2, 2, 1]])
    assert lane_norms(source, 0, 5) == {0: [1.0] * 5, 1: [1.0] + [100.0] * 4}
    assert source.dropped_rows == 1


@pytest.mark.parametrize(("ratio", "dropped"), [(3.0, 0), (2.99, 1), (1.5, 2), (None, 0)])
def test_rows_are_outliers_above_the_ratio_not_at_it(ratio: float | None, dropped: int) -> None:
    source = outlier_stream(ratio, [0.0, 1.0, 2.0, 3.0, 4.0, 6.0], [[1, 2, 2, 4, 5]])  # median 2
    source.load_block(0)
    assert source.dropped_rows == dropped


def test_the_filter_serves_the_same_rows_on_every_number_of_ranks() -> None:
    norms = [1.0] * 100
    for token in range(0, 100, 7):
        norms[token] = 1000.0 + token
    tokens = np.arange(96, dtype=np.uint16).reshape(16, 6)
    sizes = layout(max_norm_ratio=5.0)
    alone = ActivationStream(Norms(norms), tokens, sizes)
    ranks = [ActivationStream(Norms(norms), tokens, sizes, "cpu", rank, 4) for rank in range(4)]
    for step in range(8):
        together = torch.cat([source.batch(step).activations for source in ranks])
        assert torch.equal(together, alone.batch(step).activations)
        assert together.max() == 1.0
    assert sum(source.dropped_rows for source in ranks) == alone.dropped_rows == 14


# --------------------------------------------------------------------- errors


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("sequence", [5, 11])
def test_activations_that_are_not_finite_name_block_and_sequences(bad: float, sequence: int) -> None:
    tokens = np.ones((16, 4), dtype=np.uint16)
    tokens[sequence, 3] = 2
    source = ActivationStream(Norms([0.0, 1.0, bad]), tokens, layout(batch_size=4))
    block = next(
        block for block in range(2) for lane in range(4) if sequence in source.lane_sequences(block, lane).tolist()
    )
    with pytest.raises(InputError, match=rf"not finite in block {block}, sequences \[{sequence}\]: .*float32"):
        take(source, 16)


def test_all_bad_sequences_of_a_pass_are_named() -> None:
    tokens = np.ones((4, 4), dtype=np.uint16)
    tokens[[0, 2]] = 2
    source = ActivationStream(
        Norms([0.0, 1.0, math.nan]), tokens, layout(lanes=1, block_sequences=4, batch_size=4, lm_batch_sequences=4)
    )
    with pytest.raises(InputError, match=r"block 0, sequences \[(0, 2|2, 0)\]"):
        source.batch(0)


def test_positions_that_are_left_out_need_not_be_finite() -> None:
    tokens = np.ones((4, 4), dtype=np.uint16)
    tokens[:, 0] = 2
    source = ActivationStream(
        Norms([0.0, 1.0, math.inf]), tokens, layout(block_sequences=4, batch_size=4, drop_positions=1)
    )
    assert source.batch(0).activations[:, 0].tolist() == [1.0] * 4


def test_a_block_that_failed_half_way_is_not_taken_for_the_one_before() -> None:
    tokens = np.arange(16, dtype=np.uint16)[:, None].repeat(4, axis=1)
    model = Norms([float(token + 1) for token in range(16)])
    source = ActivationStream(model, tokens, layout(batch_size=4))
    first = source.batch(0).activations
    bad = int(source.lane_sequences(1, 3)[0])  # the last lane: the others are filled before it fails
    model.norms[bad] = math.nan
    for _ in range(2):
        with pytest.raises(InputError, match="not finite in block 1"):
            source.batch(source.steps_per_block)
    assert torch.equal(source.batch(0).activations, first)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"block_sequences": -8}, "block_sequences is -8; it must be at least 1"),
        ({"lanes": 0}, "lanes is 0; it must be at least 1"),
        ({"lm_batch_sequences": 0}, "lm_batch_sequences is 0; it must be at least 1"),
        ({"drop_positions": -1}, "drop_positions is -1; it must not be negative"),
        ({"batch_size": 13}, "batch_size is 13; it must be a multiple of lanes, 4"),
        ({"block_sequences": 10}, "block_sequences is 10; it must be a multiple of lanes, 4"),
        ({"max_norm_ratio": 1.0}, "max_norm_ratio is 1.0; it must be larger than 1"),
        ({"max_norm_ratio": -3.0}, "max_norm_ratio is -3.0; it must be larger than 1"),
    ],
)
def test_sizes_that_are_wrong_in_themselves_are_errors(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        layout(**change)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"num_sequences": 7}, r"block_sequences is 8, but there are only 7 training sequences"),
        ({"world": 3}, r"lanes is 4; it must be a multiple of the 3 ranks"),
        ({"world": 8}, r"lanes is 4; it must be a multiple of the 8 ranks"),
        ({"batch_size": 52}, r"a block has 48 rows, fewer than batch_size 52; raise block_sequences"),
        ({"batch_size": 44, "drop_positions": 1}, r"a block has 40 rows, fewer than batch_size 44"),
        ({"drop_positions": 6}, r"a block has 0 rows, fewer than batch_size 12"),
        ({"drop_positions": 9}, r"a block has 0 rows, fewer than batch_size 12"),
    ],
)
def test_sizes_that_do_not_fit_together_are_errors(sizes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        stream(**sizes)


@pytest.mark.parametrize("sizes", [{"num_sequences": 8}, {"batch_size": 48}, {"batch_size": 40, "drop_positions": 1}])
def test_sizes_that_just_fit_are_no_errors(sizes: dict[str, Any]) -> None:
    source = stream(**sizes)
    assert len(source.batch(0).activations) == sizes.get("batch_size", 12)


# ------------------------------------------------------------------- held out


def held_out(num_sequences: int, rank: int = 0, world: int = 1, **changes: Any) -> HeldOutActivations:
    return HeldOutActivations(Positions(), numbered(num_sequences), layout(**changes), "cpu", rank, world)


@pytest.mark.parametrize("drop_positions", [0, 1, 5])
def test_held_out_sequences_come_in_order_with_their_tokens(drop_positions: int) -> None:
    source = held_out(7, drop_positions=drop_positions)
    batches = list(source)
    kept = CONTEXT - drop_positions
    assert len(source) == len(batches) == 3
    assert [len(batch.activations) for batch in batches] == [3 * kept, 2 * kept, 2 * kept]
    expected = [Row(sequence, position) for sequence in range(7) for position in range(drop_positions, CONTEXT)]
    assert [row for batch in batches for row in rows_of(batch.activations)] == expected
    assert torch.cat([batch.sequences for batch in batches]).tolist() == [row.sequence for row in expected]
    assert torch.cat([batch.positions for batch in batches]).tolist() == [row.position for row in expected]
    assert torch.cat([batch.token_ids for batch in batches]).tolist() == [
        row.sequence * CONTEXT + row.position for row in expected
    ]


def test_held_out_activations_can_be_read_again() -> None:
    source = held_out(7)
    assert [batch.sequences.tolist() for batch in source] == [batch.sequences.tolist() for batch in source]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_the_shares_of_the_ranks_are_disjoint_and_complete(world: int) -> None:
    shares = [held_out(20, rank, world) for rank in range(world)]
    served = [sorted({int(s) for batch in share for s in batch.sequences}) for share in shares]
    assert sorted(sequence for share in served for sequence in share) == list(range(20))
    for share in shares:
        assert len(share) == len(list(share))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("num_sequences", [4, 6, 9])
def test_no_rank_goes_without_a_share(num_sequences: int) -> None:
    # A rank that has nothing to evaluate skips the evaluation, at the end of which the others wait for it for ever.
    shares = [held_out(num_sequences, rank, world=4) for rank in range(4)]
    assert min(len(share) for share in shares) >= 1
    served = [row for share in shares for batch in share for row in rows_of(batch.activations)]
    assert Counter(served) == Counter(
        Row(sequence, position) for sequence in range(num_sequences) for position in range(CONTEXT)
    )


def test_fewer_held_out_sequences_than_ranks_are_an_error() -> None:
    with pytest.raises(InputError, match=r"3 .*4 ranks"):
        held_out(3, world=4)


def test_outliers_are_not_left_out_of_evaluation() -> None:
    source = HeldOutActivations(
        Norms([0.0, 1.0, 99.0]), np.array([[1, 1, 2, 1]], dtype=np.uint16), layout(max_norm_ratio=2.0)
    )
    assert next(iter(source)).activations[:, 0].tolist() == [1.0, 1.0, 99.0, 1.0]


@pytest.mark.parametrize(("dtype", "token"), [(np.uint16, 2**16 - 1), (np.uint32, 2**32 - 1)])
def test_large_token_ids_stay_what_they_are(dtype: type[np.unsignedinteger[Any]], token: int) -> None:
    sequences = np.array([[0, 1], [token, token - 1], [2, 3]], dtype=dtype)
    tokens = token_tensor(sequences, torch.tensor([2, 1]))
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == [[2, 3], [token, token - 1]]

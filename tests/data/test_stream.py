"""The order of a stream: blocks, lanes, epochs, ranks."""

from collections import Counter
from itertools import islice, pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from numbered_stream import (
    CONTEXT,
    Positions,
    Row,
    layout,
    numbered,
    rows_of,
    stream,
    take,
)
from vsae_lightning.data.stream import (
    ActivationStream,
)

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

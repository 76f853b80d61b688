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


def test_a_step_that_a_block_cannot_fill_goes_on_in_the_next() -> None:
    source = stream(batch_size=20)  # 5 of a lane's 12 rows per step: the third has 2 rows of block 0 and 3 of block 1
    assert source.steps_per_block == 3
    batches = take(source, 5)  # 25 rows a lane: two blocks and the first row of the third
    rows = Counter(row for batch in batches for row in rows_of(batch.activations))
    blocks = [{int(s) for lane in range(4) for s in source.lane_sequences(block, lane)} for block in range(2)]
    assert len(blocks[0] | blocks[1]) == 16
    served = [row.sequence for part in batches[2].activations.split(5) for row in rows_of(part)]
    assert [sequence in blocks[0] for sequence in served] == [True, True, False, False, False] * 4
    assert rows.total() == 100
    assert all(rows[Row(sequence, position)] >= 1 for sequence in blocks[0] | blocks[1] for position in range(CONTEXT))


def test_a_step_may_be_larger_than_a_block() -> None:
    whole = take(stream(batch_size=12), 20)
    for step, batch in enumerate(take(stream(batch_size=60), 4)):  # 15 rows of a lane, which has 12 in a block
        pieces = torch.stack([part.activations.unflatten(0, (4, 3)) for part in whole[5 * step : 5 * step + 5]], dim=1)
        assert torch.equal(batch.activations, pieces.flatten(0, 2))


def test_the_rows_of_a_step_know_where_they_are_from() -> None:
    source = stream(batch_size=20)
    for step in (0, 2, 7):
        blocks, sequences = source.origin(step)
        assert sequences.tolist() == [row.sequence for row in rows_of(source.batch(step).activations)]
        assert blocks == [(5 * step) // 12] + (
            [(5 * step + 4) // 12] if (5 * step) // 12 != (5 * step + 4) // 12 else []
        )


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_small_batches_one_after_the_other_are_a_large_one(parts: int) -> None:
    """What gradient accumulation needs: the rows of `parts` batches of B are those of one batch of parts * B."""
    sizes: dict[str, Any] = {"num_sequences": 37, "block_sequences": 12, "context": 5}  # 15 rows of a lane in a block
    small = take(stream(**sizes, batch_size=8), 12 * parts)
    for step, large in enumerate(take(stream(**sizes, batch_size=8 * parts), 12)):
        together = [batch.activations.unflatten(0, (4, 2)) for batch in small[parts * step : parts * step + parts]]
        assert torch.equal(large.activations, torch.cat(together, dim=1).flatten(0, 1))
        assert large.first_row == small[parts * step].first_row == 2 * parts * step


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


def test_epochs_follow_each_other_without_a_gap() -> None:
    source = stream(num_sequences=20)  # 5 blocks of 8 are two epochs; the third block holds parts of both
    drawn = [
        int(sequence) for block in range(10) for lane in range(4) for sequence in source.lane_sequences(block, lane)
    ]
    epochs = [drawn[start : start + 20] for start in range(0, 80, 20)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(20))
    assert len({str(epoch) for epoch in epochs}) == 4


def test_every_row_is_served_once_an_epoch() -> None:
    source = stream(num_sequences=20, batch_size=20)  # two epochs: 240 rows, 12 steps
    rows = Counter(row for batch in take(source, 12) for row in rows_of(batch.activations))
    assert rows == Counter({Row(sequence, position): 2 for sequence in range(20) for position in range(CONTEXT)})


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
LATER_ROWS = [(16, 0), (11, 2), (16, 5), (3, 2), (8, 1), (8, 2), (9, 3), (7, 0), (7, 5), (6, 3), (4, 1), (6, 2)]


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
def any_sizes(draw: st.DrawFn) -> dict[str, int]:
    lanes = draw(st.sampled_from([1, 2, 3, 4, 6, 8]))
    context = draw(st.integers(1, 7))
    sequences_per_lane = draw(st.integers(1, 4))
    return {
        "lanes": lanes,
        "world": draw(st.sampled_from([world for world in (1, 2, 3, 4, 6, 8) if lanes % world == 0])),
        "context": context,
        "drop_positions": draw(st.integers(0, context - 1)),
        "block_sequences": sequences_per_lane * lanes,
        "batch_size": draw(st.integers(1, 40)) * lanes,
        "num_sequences": sequences_per_lane * lanes + draw(st.integers(0, 40)),
        "lm_batch_sequences": draw(st.integers(1, 5)),
        "seed": draw(st.integers(0, 2**40)),
        "start": draw(st.integers(0, 60)),
    }


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(any_sizes())
def test_streams_of_any_size_serve_the_same_rows_from_any_step_on_any_number_of_ranks(sizes: dict[str, int]) -> None:
    start, world = sizes.pop("start"), sizes.pop("world")
    lanes, rows_per_step = sizes["lanes"], sizes["batch_size"] // sizes["lanes"]
    alone = take(stream(**sizes), 6, start)
    assert torch.equal(stream(**sizes).batch(start + 3).activations, alone[3].activations)  # a resumed one
    ranks = [take(stream(**sizes, rank=rank, world=world), 6, start) for rank in range(world)]
    for index, whole in enumerate(alone):
        assert whole.activations.shape == (sizes["batch_size"], 2)
        by_lane = whole.activations.split(rows_per_step)
        for rank in range(world):
            assert ranks[rank][index].lanes == tuple(range(lanes))[rank::world]
            expected = torch.cat([by_lane[lane] for lane in range(rank, lanes, world)])
            assert torch.equal(ranks[rank][index].activations, expected)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(any_sizes())
def test_streams_of_any_size_serve_every_row_once_an_epoch(sizes: dict[str, int]) -> None:
    del sizes["start"], sizes["world"]
    context, drop, sequences = sizes["context"], sizes["drop_positions"], sizes["num_sequences"]
    rows_per_lane = sizes["block_sequences"] // sizes["lanes"] * (context - drop)
    source = stream(**sizes)
    blocks = -(-2 * sequences // sizes["block_sequences"])  # two epochs, and the beginning of a third
    rows_per_step = sizes["batch_size"] // sizes["lanes"]
    steps = -(-blocks * rows_per_lane // rows_per_step)
    by_lane: list[list[Row]] = [[] for _ in range(sizes["lanes"])]
    for batch in take(source, steps):
        for lane, part in enumerate(batch.activations.split(rows_per_step)):
            by_lane[lane] += rows_of(part, context)
    counts = Counter(row for rows in by_lane for row in rows[: blocks * rows_per_lane])
    assert {row.position for row in counts} == set(range(drop, context))
    assert counts.total() == blocks * sizes["block_sequences"] * (context - drop)
    # Blocks cover two epochs and `begun` sequences of a third, whose rows come once more.
    begun = blocks * sizes["block_sequences"] - 2 * sequences
    times = [{counts[Row(sequence, position)] for position in range(drop, context)} for sequence in range(sequences)]
    more = -(-begun // sequences)
    assert all(len(of_one) == 1 and next(iter(of_one)) in range(2, 3 + more) for of_one in times)
    assert sum(next(iter(of_one)) - 2 for of_one in times) == begun

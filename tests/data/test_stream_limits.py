"""What a stream leaves out or refuses, and what held-out activations are."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from numbered_stream import (
    CONTEXT,
    Norms,
    Positions,
    Row,
    layout,
    numbered,
    rows_of,
    stream,
    take,
)
from vsae_lightning.data.held_out import HeldOutActivations
from vsae_lightning.data.stream import ActivationStream, token_tensor
from vsae_lightning.errors import InputError

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


def test_one_limit_holds_for_all_lanes_and_blocks() -> None:
    source = outlier_stream(10.0, [0.0, 1.0, 40.0], [[1, 1, 1, 2, 2], [2, 2, 2, 2, 1]])
    source.load_block(0)
    assert source.dropped_rows == 2  # by the medians of the lanes, 1 and 40
    source.leave_out_above(39.0)
    assert source.dropped_rows == 6
    for block in range(2):
        assert lane_norms(source, block, 5) == {0: [1.0] * 5, 1: [1.0] * 5}
    source.leave_out_above(40.0)
    assert {max(norms) for norms in lane_norms(source, 1, 5).values()} == {40.0}


def test_a_limit_that_leaves_nothing_of_a_lane_is_an_error() -> None:
    source = outlier_stream(10.0, [0.0, 1.0, 100.0], [[1, 1, 1, 1], [2, 2, 2, 2]])
    source.leave_out_above(10.0)
    with pytest.raises(InputError, match=r"max_norm_ratio is 10.0: it leaves nothing of block 0, lane [01]"):
        source.batch(0)


@pytest.mark.parametrize("max_norm", [None, 5.0])
def test_the_filter_serves_the_same_rows_on_every_number_of_ranks(max_norm: float | None) -> None:
    norms = [1.0] * 100
    for token in range(0, 100, 7):
        norms[token] = 1000.0 + token
    tokens = np.arange(96, dtype=np.uint16).reshape(16, 6)
    sizes = layout(max_norm_ratio=5.0)
    alone = ActivationStream(Norms(norms), tokens, sizes)
    ranks = [ActivationStream(Norms(norms), tokens, sizes, "cpu", rank, 4) for rank in range(4)]
    if max_norm is not None:
        for source in (alone, *ranks):
            source.leave_out_above(max_norm)
    for step in range(8):
        together = torch.cat([source.batch(step).activations for source in ranks])
        assert torch.equal(together, alone.batch(step).activations)
        assert together.max() == 1.0
    assert sum(source.dropped_rows for source in ranks) == alone.dropped_rows == 14


# --------------------------------------------------------------------- errors


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("sequence", [5, 11])
def test_activations_that_are_not_finite_are_named_counted_and_left_out(bad: float, sequence: int) -> None:
    tokens = np.ones((16, 4), dtype=np.uint16)
    tokens[sequence, 3] = 2
    source = ActivationStream(Norms([0.0, 1.0, bad]), tokens, layout(batch_size=4))
    block = next(
        block for block in range(2) for lane in range(4) if sequence in source.lane_sequences(block, lane).tolist()
    )
    with pytest.warns(UserWarning, match=rf"not finite in block {block}, sequences \[{sequence}\]: left out .*\(1 seq"):
        batches = take(source, 16)
    assert source.non_finite_sequences == source.dropped_rows == 1
    rows = torch.cat([batch.activations for batch in batches])
    assert rows[:, 0].tolist() == [1.0] * 64  # one of the 63 others twice


def test_too_many_sequences_that_are_not_finite_end_the_run() -> None:
    tokens = np.ones((4, 4), dtype=np.uint16)
    tokens[[0, 2], 1] = 2
    sizes = layout(lanes=1, block_sequences=4, batch_size=4, lm_batch_sequences=4)
    model = Norms([0.0, 1.0, math.nan])
    with pytest.warns(UserWarning, match=r"block 0, sequences \[(0, 2|2, 0)\]"):
        ActivationStream(model, tokens, sizes, max_non_finite_sequences=2).batch(0)
    with (
        pytest.warns(UserWarning, match="not finite"),
        pytest.raises(InputError, match=r"max_non_finite_sequences is 1, and block 0, sequences .*float32"),
    ):
        ActivationStream(model, tokens, sizes, max_non_finite_sequences=1).batch(0)


def test_a_lane_without_any_finite_row_is_an_error() -> None:
    source = ActivationStream(Norms([0.0, math.inf]), np.ones((8, 4), dtype=np.uint16), layout(batch_size=4))
    with (
        pytest.warns(UserWarning, match="not finite"),
        pytest.raises(InputError, match=r"no activation of block 0, lane 0 is finite: .*float32"),
    ):
        source.batch(0)


def test_the_ratio_of_norms_counts_finite_rows_alone() -> None:
    source = outlier_stream(3.0, [0.0, 1.0, 2.0, math.nan, 7.0], [[1, 2, 2, 3, 3, 4]])  # the median of 1, 2, 2, 7: 2
    with pytest.warns(UserWarning, match="not finite"):
        assert sorted(set(source.batch(0).activations[:, 0].tolist())) == [1.0, 2.0]


def test_held_out_activations_that_are_not_finite_are_left_out() -> None:
    tokens = np.array([[1, 2, 1], [1, 1, 1], [2, 2, 2]], dtype=np.uint16)
    source = HeldOutActivations(Norms([0.0, 1.0, math.nan]), tokens[:2], layout())
    with pytest.warns(UserWarning, match=r"held-out sequences \[0\]: left out"):
        (batch,) = list(source)
    assert batch.sequences.tolist() == [0, 0, 1, 1, 1]
    assert batch.positions.tolist() == [0, 2, 0, 1, 2]
    assert len(batch.activations) == len(batch.token_ids) == 5
    with pytest.raises(InputError, match=r"no activation of the held-out sequences \[2\] is finite"):
        list(HeldOutActivations(Norms([0.0, 1.0, math.nan]), tokens, layout(lm_batch_sequences=1)))


def test_positions_that_are_left_out_need_not_be_finite() -> None:
    tokens = np.ones((4, 4), dtype=np.uint16)
    tokens[:, 0] = 2
    source = ActivationStream(
        Norms([0.0, 1.0, math.inf]), tokens, layout(block_sequences=4, batch_size=4, drop_positions=1)
    )
    assert source.batch(0).activations[:, 0].tolist() == [1.0] * 4


def test_a_block_that_was_given_up_half_way_is_not_taken_for_the_one_before() -> None:
    class StopError(Exception):
        pass

    def stop_at_the_last_lane() -> None:
        if len(model.seen) >= 14:
            raise StopError

    model = Positions()
    source = ActivationStream(model, numbered(16), layout(batch_size=12))
    first = source.batch(0).activations
    source.before_pass.append(stop_at_the_last_lane)  # the other lanes are filled before
    for _ in range(2):
        with pytest.raises(StopError):
            source.batch(4)
    source.before_pass.clear()
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
        ({"drop_positions": 6}, r"drop_positions is 6: it leaves nothing of a context of 6"),
        ({"drop_positions": 9}, r"drop_positions is 9: it leaves nothing of a context of 6"),
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
    assert len(source) == len(batches) == 4  # one for each lane
    assert [len(batch.activations) for batch in batches] == [2 * kept, 2 * kept, 2 * kept, kept]
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


def test_the_chunks_are_the_same_on_any_number_of_ranks() -> None:
    alone = [batch.sequences.tolist() for batch in held_out(50)]
    for world in (2, 4):
        shares = [[batch.sequences.tolist() for batch in held_out(50, rank, world)] for rank in range(world)]
        assert [chunk for chunks in zip(*shares, strict=True) for chunk in chunks] == alone


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


@pytest.mark.parametrize(("max_norm", "left_out"), [(None, []), (99.0, []), (98.0, [99.0])])
def test_held_out_rows_above_the_limit_are_apart(max_norm: float | None, left_out: list[float]) -> None:
    tokens = np.array([[1, 1, 2, 1]], dtype=np.uint16)
    source = HeldOutActivations(Norms([0.0, 1.0, 99.0]), tokens, layout(max_norm_ratio=2.0), max_norm=max_norm)
    (batch,) = list(source)
    kept = [place for place, token in enumerate(tokens[0]) if token == 1 or not left_out]
    assert batch.positions.tolist() == kept
    assert batch.token_ids.tolist() == tokens[0, kept].tolist()
    assert batch.left_out[:, 0].tolist() == left_out


@pytest.mark.parametrize(("dtype", "token"), [(np.uint16, 2**16 - 1), (np.uint32, 2**32 - 1)])
def test_large_token_ids_stay_what_they_are(dtype: type[np.unsignedinteger[Any]], token: int) -> None:
    sequences = np.array([[0, 1], [token, token - 1], [2, 3]], dtype=dtype)
    tokens = token_tensor(sequences, torch.tensor([2, 1]))
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == [[2, 3], [token, token - 1]]

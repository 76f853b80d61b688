"""The Triton programs behind `kernels.triton`; importing this file imports Triton.

Strides are in elements. A key orders a candidate of a row's top k in one int64: the bits of its score in the
upper half, made monotone; in the lower half its latent, smaller ones first, and in the last bit the sign of its value.
"""

from typing import no_type_check

import triton
import triton.language as tl

NO_KEY = tl.constexpr(-(2**63))
NO_SCORE = tl.constexpr(-(2**31))
NO_MORE = tl.constexpr(2**31 - 1)
NAN_SCORE = tl.constexpr(0x7FC00000)  # above infinity, as torch.topk ranks it
LAST_LATENT = tl.constexpr(2**31 - 1)


@triton.jit
@no_type_check
def monotone(bits) -> tl.tensor:
    """float32 bits to an int32 of the same order, and back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
@no_type_check
def compact(
    keys, counts, slots, count, k, BLOCK: tl.constexpr, SORTED: tl.constexpr, CAPACITY: tl.constexpr, KEPT: tl.constexpr
) -> tl.tensor:
    """Leave the k best keys of each slot, in falling order and padded with NO_KEY; their k-th scores, [BLOCK]."""
    tl.store(counts + slots, count)
    # Other threads of this program wrote what is read here; without the barrier the read could come first.
    tl.debug_barrier()
    first_slot = tl.min(slots, 0)
    places = tl.arange(0, CAPACITY)
    kept = tl.arange(0, KEPT)
    for first in range(0, BLOCK, SORTED):
        some = first_slot + first + tl.arange(0, SORTED)
        filled = places[None, :] < tl.load(counts + some, volatile=True)[:, None]
        found = tl.load(keys + some[:, None] * CAPACITY + places[None, :], mask=filled, other=NO_KEY, volatile=True)
        best = tl.topk(found, KEPT)
        tl.store(keys + some[:, None] * CAPACITY + kept[None, :], best, mask=(kept < k)[None, :])
    tl.debug_barrier()
    kth = tl.load(keys + slots * CAPACITY + k - 1, volatile=True)
    return tl.where(count >= k, (kth >> 32).to(tl.int32), NO_SCORE)


@triton.jit
@no_type_check
def collect(z, latents, d_sae, collected, count, threshold, MAGNITUDE: tl.constexpr) -> tl.tensor:
    """Append to each row's keys those of its z that exceed its threshold; how many keys it then has, [rows]."""
    score = monotone((tl.abs(z) if MAGNITUDE else z).to(tl.int32, bitcast=True))
    score = tl.where(z != z, NAN_SCORE, score)
    # Of equal scores the first latent wins, and it came first.
    better = (score > threshold[:, None]) & (latents < d_sae)[None, :]
    place = count[:, None] + tl.cumsum(better.to(tl.int32), 1) - 1
    lower = ((latents ^ LAST_LATENT).to(tl.int64) << 1)[None, :]
    if MAGNITUDE:
        lower = lower | (z < 0).to(tl.int64)
    tl.store(collected + place, (score.to(tl.int64) << 32) | lower, mask=better)
    return count + tl.sum(better.to(tl.int32), 1)


@triton.jit
@no_type_check
def select(
    x,
    W,
    b,
    keys,
    counts,
    batch,
    d_in,
    d_sae,
    k,
    latents_per_split,
    x_row,
    x_column,
    W_row,
    W_column,
    MAGNITUDE: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    LATENTS: tl.constexpr,
    DEPTH: tl.constexpr,
    CAPACITY: tl.constexpr,
    SORTED: tl.constexpr,
    KEPT: tl.constexpr,
) -> None:
    """The k best keys of a block of rows among one split of the latents.

    A row collects what exceeds the k-th best of what it had at the last compaction; that falls short of
    the k best so far only by candidates that need not be sorted yet.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    split = tl.program_id(1)
    slots = (split * tl.num_programs(0) * ROWS + rows).to(tl.int64)
    collected = keys + slots[:, None] * CAPACITY
    x_rows = x + rows[:, None].to(tl.int64) * x_row
    depth = tl.arange(0, DEPTH)
    count = tl.zeros([ROWS], tl.int32)
    threshold = tl.where(rows < batch, NO_SCORE, NO_MORE)
    start = split * latents_per_split
    for first in range(start, tl.minimum(start + latents_per_split, d_sae), LATENTS):
        latents = first + tl.arange(0, LATENTS)
        W_columns = W + latents[None, :].to(tl.int64) * W_column
        z = tl.zeros([ROWS, LATENTS], tl.float32)
        for d in range(0, d_in, DEPTH):
            part = d + depth
            x_tile = tl.load(
                x_rows + part[None, :] * x_column, mask=(rows < batch)[:, None] & (part < d_in)[None, :], other=0.0
            )
            W_tile = tl.load(
                W_columns + part[:, None].to(tl.int64) * W_row,
                mask=(part < d_in)[:, None] & (latents < d_sae)[None, :],
                other=0.0,
            )
            z = tl.dot(x_tile, W_tile, z, input_precision=PRECISION)
        z += tl.load(b + latents, mask=latents < d_sae, other=0.0).to(tl.float32)[None, :]
        # In two halves: the keys and places of a whole tile do not fit the registers.
        left, right = tl.split(tl.permute(tl.reshape(z, [ROWS, 2, LATENTS // 2]), (0, 2, 1)))
        half = first + tl.arange(0, LATENTS // 2)
        count = collect(left, half, d_sae, collected, count, threshold, MAGNITUDE)
        count = collect(right, half + LATENTS // 2, d_sae, collected, count, threshold, MAGNITUDE)
        if tl.max(count, 0) > CAPACITY - LATENTS:
            kth = compact(keys, counts, slots, count, k, ROWS, SORTED, CAPACITY, KEPT)
            threshold = tl.where(rows < batch, kth, NO_MORE)
            count = tl.minimum(count, k)
    compact(keys, counts, slots, count, k, ROWS, SORTED, CAPACITY, KEPT)


@triton.jit
@no_type_check
def merge(
    keys,
    values,
    indices,
    slots_per_split,
    splits,
    k,
    MAGNITUDE: tl.constexpr,
    CAPACITY: tl.constexpr,
    CANDIDATES: tl.constexpr,
    KEPT: tl.constexpr,
) -> None:
    """The k best keys of one row among those of all splits, as values and indices."""
    row = tl.program_id(0).to(tl.int64)
    candidate = tl.arange(0, CANDIDATES)
    slots = (candidate // k) * slots_per_split + row
    found = tl.load(keys + slots * CAPACITY + candidate % k, mask=candidate < splits * k, other=NO_KEY)
    best = tl.reshape(tl.topk(found[None, :], KEPT), [KEPT])
    value = monotone((best >> 32).to(tl.int32)).to(tl.float32, bitcast=True)
    if MAGNITUDE:
        value = tl.where((best & 1) == 1, -value, value)
    kept = tl.arange(0, KEPT)
    tl.store(values + row * k + kept, value, mask=kept < k)
    tl.store(indices + row * k + kept, ((best & 0xFFFFFFFF) >> 1) ^ LAST_LATENT, mask=kept < k)


@triton.jit
@no_type_check
def decode(values, indices, W, out, k, d_in, W_row, W_column, PAIRS: tl.constexpr, COLUMNS: tl.constexpr) -> None:
    """Some columns of one row of sum_i values[i] W[indices[i]]."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([COLUMNS], tl.float32)
    for first in range(0, k, PAIRS):
        pair = first + tl.arange(0, PAIRS)
        latent = tl.load(indices + row * k + pair, mask=pair < k, other=0).to(tl.int64)
        value = tl.load(values + row * k + pair, mask=pair < k, other=0.0).to(tl.float32)
        W_tile = tl.load(
            W + latent[:, None] * W_row + columns[None, :].to(tl.int64) * W_column,
            mask=(pair < k)[:, None] & (columns < d_in)[None, :],
            other=0.0,
        )
        total += tl.sum(value[:, None] * W_tile.to(tl.float32), 0)
    tl.store(out + row * d_in + columns, total, mask=columns < d_in)


@triton.jit
@no_type_check
def dot_at(
    g, W, indices, out, k, d_in, g_row, g_column, W_row, W_column, PAIRS: tl.constexpr, COLUMNS: tl.constexpr
) -> None:
    """Some entries of one row of g . W[indices[i]]."""
    row = tl.program_id(0).to(tl.int64)
    pair = tl.program_id(1) * PAIRS + tl.arange(0, PAIRS)
    latent = tl.load(indices + row * k + pair, mask=pair < k, other=0).to(tl.int64)
    total = tl.zeros([PAIRS], tl.float32)
    for first in range(0, d_in, COLUMNS):
        columns = first + tl.arange(0, COLUMNS)
        g_tile = tl.load(g + row * g_row + columns * g_column, mask=columns < d_in, other=0.0).to(tl.float32)
        W_tile = tl.load(
            W + latent[:, None] * W_row + columns[None, :].to(tl.int64) * W_column,
            mask=(pair < k)[:, None] & (columns < d_in)[None, :],
            other=0.0,
        )
        total += tl.sum(g_tile[None, :] * W_tile.to(tl.float32), 1)
    tl.store(out + row * k + pair, total, mask=pair < k)


@triton.jit
@no_type_check
def weighted_rows(
    values, order, x, begin, end, k, x_row, x_offsets, inside, PAIRS: tl.constexpr, COLUMNS: tl.constexpr
) -> tl.tensor:
    """The sum over the sorted pairs begin .. end of value times row of x, [COLUMNS]."""
    total = tl.zeros([COLUMNS], tl.float32)
    for first in range(begin, end, PAIRS):
        place = first + tl.arange(0, PAIRS)
        pair = tl.load(order + place, mask=place < end, other=0)
        value = tl.load(values + pair, mask=place < end, other=0.0).to(tl.float32)
        x_tile = tl.load(
            x + (pair // k)[:, None] * x_row + x_offsets[None, :],
            mask=(place < end)[:, None] & inside[None, :],
            other=0.0,
        )
        total += tl.sum(value[:, None] * x_tile.to(tl.float32), 0)
    return total


@triton.jit
@no_type_check
def sum_pieces(
    values,
    latents,
    order,
    x,
    sums,
    k,
    d_in,
    x_row,
    x_column,
    PIECE: tl.constexpr,
    PAIRS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """The sum of one piece of the sorted pairs, if all of it is of one latent."""
    piece = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    begin = piece * PIECE
    if tl.load(latents + begin) == tl.load(latents + begin + PIECE - 1):
        inside = columns < d_in
        total = weighted_rows(
            values, order, x, begin, begin + PIECE, k, x_row, columns * x_column, inside, PAIRS, COLUMNS
        )
        tl.store(sums + piece * d_in + columns, total, mask=inside)


@triton.jit
@no_type_check
def sum_segments(
    values,
    starts,
    order,
    x,
    sums,
    out,
    k,
    d_in,
    x_row,
    x_column,
    PIECE: tl.constexpr,
    PAIRS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """The sum of the pairs of one latent: its whole pieces, and the pairs before and after these."""
    latent = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < d_in
    begin = tl.load(starts + latent)
    end = tl.load(starts + latent + 1)
    first_piece = (begin + PIECE - 1) // PIECE
    last_piece = end // PIECE
    whole = first_piece < last_piece
    before = tl.where(whole, first_piece * PIECE, end)
    after = tl.where(whole, last_piece * PIECE, end)
    x_offsets = columns * x_column
    total = weighted_rows(values, order, x, begin, before, k, x_row, x_offsets, inside, PAIRS, COLUMNS)
    for first in range(first_piece, last_piece, PAIRS):
        piece = first + tl.arange(0, PAIRS)
        tile = tl.load(
            sums + piece[:, None] * d_in + columns[None, :],
            mask=(piece < last_piece)[:, None] & inside[None, :],
            other=0.0,
        )
        total += tl.sum(tile, 0)
    total += weighted_rows(values, order, x, after, end, k, x_row, x_offsets, inside, PAIRS, COLUMNS)
    tl.store(out + latent * d_in + columns, total, mask=inside)

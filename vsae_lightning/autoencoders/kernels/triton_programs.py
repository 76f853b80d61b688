"""The Triton programs behind `kernels.triton`; importing this file imports Triton.

Strides are in elements. A key orders a candidate of a row's top k in one int64: the bits of its score in the
upper half, made monotone; in the lower half its latent, smaller ones first, and in the last bit the sign of its value.
"""

from typing import no_type_check

import triton
import triton.language as tl

NO_KEY = tl.constexpr(-(2**63))
NO_SCORE = tl.constexpr(-(2**31))
LARGEST_SCORE = tl.constexpr(2**31 - 1)
NAN_SCORE = tl.constexpr(0x7FC00000)  # above infinity, as torch.topk ranks it
LAST_LATENT = tl.constexpr(2**31 - 1)


@triton.jit
@no_type_check
def monotone(bits) -> tl.tensor:
    """float32 bits to an int32 of the same order, and back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
@no_type_check
def scores_of(z, latents, d_sae, MAGNITUDE: tl.constexpr) -> tl.tensor:
    """What ranks some entries of a row, as int32; NO_SCORE behind its end."""
    value = tl.load(z + latents, mask=latents < d_sae, other=0.0).to(tl.float32)
    score = monotone((tl.abs(value) if MAGNITUDE else value).to(tl.int32, bitcast=True))
    score = tl.where(value != value, NAN_SCORE, score)
    return tl.where(latents < d_sae, score, NO_SCORE)


@triton.jit
@no_type_check
def reaching(z, d_sae, bound, MAGNITUDE: tl.constexpr, TILE: tl.constexpr) -> tl.tensor:
    """How many scores of a row are at least `bound`."""
    lane = tl.arange(0, TILE)
    total = tl.zeros([TILE], tl.int32)
    for first in range(0, d_sae, TILE):
        total += (scores_of(z, first + lane, d_sae, MAGNITUDE) >= bound).to(tl.int32)
    return tl.sum(total, 0)


@triton.jit
@no_type_check
def kth_of_groups(z, d_sae, k, MAGNITUDE: tl.constexpr, TILE: tl.constexpr) -> tl.tensor:
    """The k-th largest of the maxima of the groups of latents that are equal modulo TILE.

    k latents at least reach it, so that no other can be among the k best; of a random row hardly more do.
    """
    lane = tl.arange(0, TILE)
    most = tl.full([TILE], NO_SCORE, tl.int32)
    for first in range(0, d_sae, TILE):
        most = tl.maximum(most, scores_of(z, first + lane, d_sae, MAGNITUDE))
    kth = tl.where(tl.sum((most >= 0).to(tl.int32), 0) >= k, 0, NO_SCORE)
    bit = tl.full([], 1 << 30, tl.int32)
    while bit > 0:
        kth = tl.where(tl.sum((most >= kth + bit).to(tl.int32), 0) >= k, kth + bit, kth)
        bit = bit >> 1
    return kth


@triton.jit
@no_type_check
def kth_of_row(z, d_sae, k, MAGNITUDE: tl.constexpr, TILE: tl.constexpr) -> tl.tensor:
    """The k-th largest score, bit by bit."""
    kth = tl.where(reaching(z, d_sae, 0, MAGNITUDE, TILE) >= k, 0, NO_SCORE)
    bit = tl.full([], 1 << 30, tl.int32)
    while bit > 0:
        kth = tl.where(reaching(z, d_sae, kth + bit, MAGNITUDE, TILE) >= k, kth + bit, kth)
        bit = bit >> 1
    return kth


@triton.jit
@no_type_check
def collect(
    z, keys, d_sae, count, low, high, MAGNITUDE: tl.constexpr, TILE: tl.constexpr, CAPACITY: tl.constexpr
) -> tl.tensor:
    """Append the keys of the latents whose score is within low .. high, as far as there is room; how many there are."""
    lane = tl.arange(0, TILE)
    for first in range(0, d_sae, TILE):
        latents = first + lane
        score = scores_of(z, latents, d_sae, MAGNITUDE)
        wanted = (score >= low) & (score <= high) & (latents < d_sae)
        lower = (latents ^ LAST_LATENT).to(tl.int64) << 1
        if MAGNITUDE:
            lower = lower | (tl.load(z + latents, mask=wanted, other=0.0).to(tl.float32) < 0).to(tl.int64)
        place = count + tl.cumsum(wanted.to(tl.int32), 0) - 1
        tl.store(keys + place, (score.to(tl.int64) << 32) | lower, mask=wanted & (place < CAPACITY))
        count += tl.sum(wanted.to(tl.int32), 0)
    return count


@triton.jit
@no_type_check
def topk(
    z,
    values,
    indices,
    keys,
    d_sae,
    k,
    z_row,
    MAGNITUDE: tl.constexpr,
    TILE: tl.constexpr,
    CAPACITY: tl.constexpr,
    KEPT: tl.constexpr,
) -> None:
    """The k largest entries of one row, as values and indices: a few more than k are collected, and sorted."""
    row = tl.program_id(0).to(tl.int64)
    z += row * z_row
    keys += row * CAPACITY
    bound = kth_of_groups(z, d_sae, k, MAGNITUDE, TILE)
    none = tl.full([], 0, tl.int32)
    count = collect(z, keys, d_sae, none, bound, LARGEST_SCORE, MAGNITUDE, TILE, CAPACITY)
    if count > CAPACITY:
        tl.debug_barrier()
        bound = kth_of_row(z, d_sae, k, MAGNITUDE, TILE)
        count = collect(z, keys, d_sae, none, bound + 1, LARGEST_SCORE, MAGNITUDE, TILE, CAPACITY)
        # Of equal scores the first latents win, and they come first.
        count = collect(z, keys, d_sae, count, bound, bound, MAGNITUDE, TILE, CAPACITY)
    # Other threads of this program wrote what is read here; without the barrier the read could come first.
    tl.debug_barrier()
    place = tl.arange(0, CAPACITY)
    found = tl.load(keys + place, mask=place < count, other=NO_KEY, volatile=True)
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

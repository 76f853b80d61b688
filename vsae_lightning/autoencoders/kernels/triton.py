"""The hot path of a TopK autoencoder in Triton; for CUDA, and for Triton's interpreter.

No function here has a gradient. Sums are taken in float32. Triton is imported when a function is first called.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

MOST_K = 512
NUMBERS_AT_ONCE = 2**26  # of x W, in memory together
TILE = 512  # entries of a row that one program looks at together, where k is not large
PIECE = 64  # pairs of a frequent latent that one program sums


def topk(
    z: Float[Tensor, "batch d_sae"], k: int, magnitude: bool = False
) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
    """The k largest entries of every row, in any order.

    values[r, i] = z[r, indices[r, i]]. NaN counts as larger than everything, and of equal entries the first are taken.

    Args:
        z: Of a precision that float32 holds.
        k: At most 512 and d_sae.
        magnitude: Rank by |z|.

    Returns:
        Values in the dtype of z, and int64 indices, distinct in each row.

    Raises:
        ValueError: k is out of range.
    """
    batch, d_sae = z.shape
    if not 1 <= k <= min(MOST_K, d_sae):
        raise ValueError(f"k is {k}; it must be from 1 to {min(MOST_K, d_sae)}.")
    values, indices = z.new_empty(batch, k), torch.empty(batch, k, dtype=torch.long, device=z.device)
    if not batch:
        return values, indices
    z = z if z.stride(1) == 1 else z.contiguous()
    kept = max(16, _power_of_two(k))
    tile = max(TILE, 4 * kept)  # of 4 k maxima the k-th largest is reached by some 1.15 k of many numbers
    keys = torch.empty(batch, 2 * kept, dtype=torch.long, device=z.device)
    _launch(
        "topk", (batch,),
        z, values, indices, keys, d_sae, k, z.stride(0),
        MAGNITUDE=magnitude, TILE=tile, CAPACITY=2 * kept, KEPT=kept,
    )  # fmt: skip
    return values, indices


def topk_of_linear(
    x: Float[Tensor, "batch d_in"],
    W: Float[Tensor, "d_in d_sae"],
    b: Float[Tensor, " d_sae"],
    k: int,
    magnitude: bool = False,
) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
    """`topk` of z = x W + b, some rows of z at a time; x, W and b are of one dtype.

    The product is the library's own: in a program that also selects it has too few registers, and took 1.3 to 3 times
    as long as both one after the other on an H200 (`benchmarks/gpu_topk_2026-11-26.json`).
    """
    rows = max(1, NUMBERS_AT_ONCE // W.shape[1])
    if len(x) <= rows:
        return topk(torch.addmm(b, x, W), k, magnitude)
    parts = [topk(torch.addmm(b, part, W), k, magnitude) for part in x.split(rows)]
    values, indices = zip(*parts, strict=True)
    return torch.cat(values), torch.cat(indices)


def decode(
    values: Float[Tensor, "batch k"], indices: Int[Tensor, "batch k"], W_dec: Float[Tensor, "d_sae d_in"]
) -> Float[Tensor, "batch d_in"]:
    """sum_i values[r, i] W_dec[indices[r, i]] of every row r, in the dtype of W_dec; indices may repeat."""
    (batch, k), d_in = values.shape, W_dec.shape[1]
    out = W_dec.new_empty(batch, d_in)
    columns = _columns(d_in)
    if batch:
        _launch(
            "decode", (batch, -(-d_in // columns)),
            values.contiguous(), indices.contiguous(), W_dec, out, k, d_in, *W_dec.stride(),
            PAIRS=8, COLUMNS=columns, num_warps=_warps(columns, W_dec.dtype),
        )  # fmt: skip
    return out


def dot_at(
    g: Float[Tensor, "batch d_in"], W_dec: Float[Tensor, "d_sae d_in"], indices: Int[Tensor, "batch k"]
) -> Float[Tensor, "batch k"]:
    """g[r] . W_dec[indices[r, i]], in the dtype of g: the gradient of `decode` with respect to its values."""
    (batch, k), d_in = indices.shape, W_dec.shape[1]
    out = g.new_empty(batch, k)
    pairs = min(16, _power_of_two(k))
    if batch:
        _launch(
            "dot_at", (batch, -(-k // pairs)),
            g, W_dec, indices.contiguous(), out, k, d_in, *g.stride(), *W_dec.stride(),
            PAIRS=pairs, COLUMNS=min(256, _columns(d_in)),
        )  # fmt: skip
    return out


def weight_gradient(
    values: Float[Tensor, "batch k"], indices: Int[Tensor, "batch k"], x: Float[Tensor, "batch d_in"], d_sae: int
) -> Float[Tensor, "d_sae d_in"]:
    """sum over (r, i) with indices[r, i] = j of values[r, i] x[r], for every latent j, in the dtype of x.

    The gradient of `decode` with respect to W_dec, with x that of its result; and of the selected entries of x W with
    respect to W^T. The same sum in every call: the pairs are sorted by latent, and a long segment is summed in pieces.
    """
    k, d_in = values.shape[1], x.shape[1]
    out = x.new_empty(d_sae, d_in)
    latents, order = indices.int().flatten().sort(stable=True)  # half the digits of int64 to sort by
    starts = torch.searchsorted(latents, torch.arange(d_sae + 1, dtype=latents.dtype, device=x.device))
    pieces = len(latents) // PIECE
    sums = torch.empty(pieces, d_in, dtype=torch.float32, device=x.device)
    columns, flat = _columns(d_in), values.contiguous().flatten()
    sizes = {"PIECE": PIECE, "PAIRS": 8, "COLUMNS": columns, "num_warps": _warps(columns, x.dtype)}
    blocks = -(-d_in // columns)
    if pieces:
        _launch("sum_pieces", (pieces, blocks), flat, latents, order, x, sums, k, d_in, *x.stride(), **sizes)
    _launch("sum_segments", (d_sae, blocks), flat, starts, order, x, sums, out, k, d_in, *x.stride(), **sizes)
    return out


def serves(scores: Float[Tensor, "rows width"], k: int) -> bool:
    """Whether `topk` can be used for these."""
    if scores.device.type != "cuda" or scores.dtype.itemsize > 4 or k > MOST_K:
        return False
    return usable(torch.device(scores.device.type), scores.dtype) is None


@cache
def usable(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why these kernels cannot be used, in one line; None: they can, tried with the tiles of large problems."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return "triton is not installed"
    try:
        wrong = [name for name, agrees in CHECKS.items() if not agrees(*_problem(device, dtype))]
    except Exception as error:  # a compiler, a driver or a device may fail in its own ways
        reason = str(error).strip().splitlines() or [""]
        return f"a kernel failed with {type(error).__name__}: {reason[-1]}"
    return f"wrong result of {', '.join(wrong)}" if wrong else None


def _problem(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """x [130, 70], W_dec [300, 70], and 40 indices of each row, many of the same."""
    numbers = torch.Generator().manual_seed(0)
    x, W_dec = torch.randn(130, 70, generator=numbers), torch.randn(300, 70, generator=numbers)
    indices = torch.randint(80, (130, 40), generator=numbers)
    return x.to(device, dtype), W_dec.to(device, dtype), indices.to(device)


def _topk_agrees(x: Tensor, W_dec: Tensor, indices: Tensor) -> bool:
    z = torch.addmm(W_dec[:, 0].double(), x.double(), W_dec.T.double())
    for magnitude in (False, True):
        values, chosen = topk_of_linear(x, W_dec.T, W_dec[:, 0], 40, magnitude)
        found = values.abs() if magnitude else values
        expected = (z.abs() if magnitude else z).topk(40).values
        if not (_close(found.sort(descending=True).values, expected) and _close(values, z.gather(-1, chosen))):
            return False
    return True


def _decode_agrees(x: Tensor, W_dec: Tensor, indices: Tensor) -> bool:
    values = x[:, :40]
    return _close(decode(values, indices, W_dec), (values.double()[..., None] * W_dec.double()[indices]).sum(1))


def _dot_agrees(x: Tensor, W_dec: Tensor, indices: Tensor) -> bool:
    return _close(dot_at(x, W_dec, indices), (x.double() @ W_dec.double().T).gather(-1, indices))


def _gradient_agrees(x: Tensor, W_dec: Tensor, indices: Tensor) -> bool:
    values = x[:, :40]
    dense = x.new_zeros(len(x), 80, dtype=torch.float64).scatter_add(-1, indices, values.double())
    return _close(weight_gradient(values, indices, x, 80), dense.T @ x.double())


def _close(actual: Tensor, expected: Tensor) -> bool:
    tolerance = 1e-2  # that of TF32 and bfloat16
    return torch.allclose(actual.double(), expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


CHECKS: dict[str, Callable[[Tensor, Tensor, Tensor], bool]] = {
    "topk_of_linear": _topk_agrees,
    "decode": _decode_agrees,
    "dot_at": _dot_agrees,
    "weight_gradient": _gradient_agrees,
}


def _launch(program: str, grid: tuple[int, ...], first: Tensor, *arguments: Tensor | int, **options: Any) -> None:
    """Run a program of `triton_programs` on the device of its first argument, which need not be the current one."""
    from vsae_lightning.autoencoders.kernels import triton_programs

    with torch.cuda.device_of(first):
        getattr(triton_programs, program)[grid](first, *arguments, **options)


def _columns(d_in: int) -> int:
    return min(512, max(16, _power_of_two(d_in)))


def _warps(columns: int, dtype: torch.dtype) -> int:
    """As many as read a row with 16 bytes a thread: more would share out the pairs too, and exchange their sums."""
    return max(1, min(4, columns * dtype.itemsize // (16 * 32)))


def _power_of_two(number: int) -> int:
    """The smallest that is not less."""
    return 1 << (number - 1).bit_length()

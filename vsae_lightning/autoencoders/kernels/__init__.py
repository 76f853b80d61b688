"""Sparse encoding and decoding: which latents of a row are the largest, their values, what they decode to, gradients.

`reference` says what is computed. Where few latents are kept of many, `sparse` computes with these alone, on any
device; on a GPU `triton` does, if it is installed and gives the right results there.
"""

import logging
from collections.abc import Callable, Iterator
from functools import cache, wraps
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from vsae_lightning.autoencoders.kernels import native, reference, sparse
from vsae_lightning.autoencoders.kernels.sparse import Largest, latent_tiles
from vsae_lightning.autoencoders.kernels.squares import mean_squares

__all__ = [
    "Largest",
    "decode",
    "description",
    "kernels_for",
    "linear_at",
    "linear_tiles",
    "mean_squares",
    "topk_indices",
    "topk_of_linear",
    "uncompiled",
]

Function = TypeVar("Function", bound=Callable[..., Any])

DENSE_FROM = 1 / 8  # of all latents kept, from where dense products are faster


@runtime_checkable
class Kernels(Protocol):
    """What every file of kernels offers; see `reference`."""

    def topk_of_linear(
        self, x: Tensor, W: Tensor, b: Tensor, k: int, magnitude: bool = False
    ) -> tuple[Tensor, Tensor]: ...

    def decode(self, values: Tensor, indices: Tensor, W_dec: Tensor) -> Tensor: ...

    def dot_at(self, g: Tensor, W_dec: Tensor, indices: Tensor) -> Tensor: ...

    def weight_gradient(self, values: Tensor, indices: Tensor, x: Tensor, d_sae: int) -> Tensor: ...


def uncompiled(function: Function) -> Function:
    """A function that `torch.compile` calls as it is."""

    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        # Not disabled from the start: that would import the compiler wherever this is imported.
        own = torch.compiler.disable(function) if torch.compiler.is_compiling() else function
        return own(*arguments, **options)

    return cast("Function", call)


def kernels_for(like: Tensor, k: int, width: int) -> Kernels:
    """The fastest for k kept of `width` latents, with tensors of the device and precision of `like`."""
    if k >= DENSE_FROM * width or _is_transformed():
        return cast("Kernels", reference)
    fastest = _sparse_kernels(like.device.type, like.dtype)
    return fastest if k <= getattr(fastest, "MOST_K", k) else cast("Kernels", sparse)


def description(like: Tensor, k: int, width: int) -> str:
    """Which products these are, in words."""
    kernels = kernels_for(like, k, width)
    if kernels is reference:
        return f"Dense products: {k} of {width:,} latents are kept."
    if kernels is not sparse:
        return "Sparse products by Triton kernels."
    if like.device.type != "cpu":
        return "Sparse products by PyTorch's own kernels."
    reason = native.library()
    return f"Sparse products in PyTorch alone: {reason}." if isinstance(reason, str) else "Sparse products in C."


@uncompiled
@torch.no_grad()
def topk_of_linear(
    x: Float[Tensor, "batch d_in"],
    W: Float[Tensor, "d_in d_sae"],
    b: Float[Tensor, " d_sae"],
    k: int,
    magnitude: bool = False,
) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
    """The k largest of x W + b in every row (or of |x W + b|, with their signs), without gradient: values, indices."""
    x, W, b = _cast(x, W, b)
    return kernels_for(x, k, W.shape[-1]).topk_of_linear(x, W, b, k, magnitude)


@uncompiled
@torch.no_grad()
def topk_indices(scores: Float[Tensor, "rows width"], k: int, magnitude: bool = False) -> Int[Tensor, "rows k"]:
    """The places of the k largest scores, or |scores|, of every row."""
    if _is_transformed():
        return (scores.abs() if magnitude else scores).topk(k, dim=-1).indices
    return sparse.topk_indices(scores, k, magnitude)


def linear_tiles(
    x: Float[Tensor, "batch d_in"], weights: list[tuple[Float[Tensor, "d_in d_sae"], Float[Tensor, " d_sae"]]]
) -> Iterator[tuple[slice, list[Float[Tensor, "batch width"]]]]:
    """x W + b for each of some weights, a few latents at a time; which latents, and the products."""
    x, *flat = _cast(x, *(tensor for pair in weights for tensor in pair))
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    for latents in latent_tiles(len(x), pairs[0][0].shape[-1], x.device):
        yield latents, [torch.addmm(b[latents], x, W[:, latents]) for W, b in pairs]


@uncompiled
def linear_at(
    x: Float[Tensor, "batch d_in"],
    center: Float[Tensor, " d_in"] | None,
    W: Float[Tensor, "d_in d_sae"],
    b: Float[Tensor, " d_sae"],
    indices: Int[Tensor, "batch k"],
    values: Float[Tensor, "batch k"] | None = None,
) -> Float[Tensor, "batch k"]:
    """(x - center) W + b at some latents of each row.

    Args:
        x: Inputs.
        center: Subtracted from every row; None: nothing is. Its gradient, -W (sum of that to b), costs no product
            with the batch.
        W: Encoder weights, best stored latent by latent.
        b: Their biases.
        indices: Which latents.
        values: What `topk_of_linear` found there, so that it need not be computed again.
    """
    if _is_transformed():
        return torch.addmm(b, x if center is None else x - center, W).gather(-1, indices)
    result: Tensor = _LinearAt.apply(x, center, W, b, indices, values)
    return result


@uncompiled
def decode(
    values: Float[Tensor, "batch k"], indices: Int[Tensor, "batch k"], W_dec: Float[Tensor, "d_sae d_in"]
) -> Float[Tensor, "batch d_in"]:
    """sum_i values[b, i] W_dec[indices[b, i]]; an index may repeat. Its gradients are sparse products too."""
    if _is_transformed():
        return reference.decode(values.to(W_dec.dtype), indices, W_dec)
    result: Tensor = _Decode.apply(values, indices, W_dec)
    return result


class _LinearAt(torch.autograd.Function):
    """The gradients of x W + b at some latents: those of W and b are sums over the rows that have a latent."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, center: Tensor | None, W: Tensor, b: Tensor, indices: Tensor, values: Tensor | None
    ) -> Tensor:
        centered = x if center is None else x - center
        ctx.save_for_backward(centered, W, indices)
        if values is not None:
            return values.clone()
        centered, W, b = _cast(centered, W, b)
        kernels = kernels_for(x, indices.shape[-1], W.shape[-1])
        return kernels.dot_at(centered, W.T, indices) + b[indices]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        centered, W, indices = ctx.saved_tensors
        kernels = kernels_for(W, indices.shape[-1], W.shape[-1])
        g = gradients[0].to(W.dtype)
        to_W = kernels.weight_gradient(g, indices, centered.to(W.dtype), W.shape[-1]).T
        to_b = g.new_zeros(W.shape[-1]).index_add(0, indices.flatten(), g.flatten())
        to_center = -(W @ to_b) if ctx.needs_input_grad[1] else None
        to_x = kernels.decode(g, indices, W.T).to(centered.dtype) if ctx.needs_input_grad[0] else None
        return to_x, to_center, to_W, to_b, None, None


class _Decode(torch.autograd.Function):
    """The gradients of a decoding: to its values and to the rows that it used."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, indices: Tensor, W_dec: Tensor) -> Tensor:
        ctx.save_for_backward(values, indices, W_dec)
        kernels = kernels_for(W_dec, indices.shape[-1], len(W_dec))
        with torch.autocast(W_dec.device.type, enabled=False):  # whichever the kernels, sums are in W_dec's precision
            return kernels.decode(values.to(W_dec.dtype), indices, W_dec)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        values, indices, W_dec = ctx.saved_tensors
        kernels = kernels_for(W_dec, indices.shape[-1], len(W_dec))
        g = gradients[0].to(W_dec.dtype)
        to_values = kernels.dot_at(g, W_dec, indices).to(values.dtype) if ctx.needs_input_grad[0] else None
        to_W = None
        if ctx.needs_input_grad[2]:
            to_W = kernels.weight_gradient(values.to(W_dec.dtype), indices, g, len(W_dec))
        return to_values, None, to_W


def _is_transformed() -> bool:
    """Whether torch.func is at work (vmap, jacrev, ...): its tensors have no memory that a kernel could read."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def _cast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """To the precision of autocast, where that is on: once, and not for every tile."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(tensor.to(dtype) for tensor in tensors)


@cache
def _sparse_kernels(device: str, dtype: torch.dtype) -> Kernels:
    if device == "cuda" and dtype.itemsize <= 4:  # Triton's sums are of float32
        from vsae_lightning.autoencoders.kernels import triton

        reason = triton.usable(torch.device(device), dtype)
        if reason is None:
            return cast("Kernels", triton)
        logging.getLogger(__name__).warning("Triton's kernels are not used: %s.", reason)
    return cast("Kernels", sparse)

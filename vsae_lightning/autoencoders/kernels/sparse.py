"""Of each row only the k that are kept are computed with; the encoder's product is made a few latents at a time.

The functions of `reference`, for a CPU with or without a C compiler, and for any other device.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vsae_lightning.autoencoders.kernels import native, triton

TILE_NUMBERS = {"cpu": 2**21, "cuda": 2**28}  # what stays in a CPU's cache; what keeps a GPU busy
FEWEST_LATENTS = 512  # of a tile


def latent_tiles(rows: int, d_sae: int, device: torch.device) -> Iterator[slice]:
    """Slices of the latents, such that a tile of all rows is no larger than the device works best with.

    By rows it would be cut worse: a product brings all its weights into order first, and each tile would do that again.
    """
    width = max(TILE_NUMBERS.get(device.type, 2**24) // max(rows, 1), FEWEST_LATENTS)
    for first in range(0, d_sae, width):
        yield slice(first, min(first + width, d_sae))


class Largest:
    """The k largest scores of every row, of tiles of latents that come one after another, from the first on.

    Args:
        rows: How many.
        k: At most as many as latents will come.
        magnitude: Rank by |score|.
        like: Of the device and precision of the scores.
    """

    def __init__(self, rows: int, k: int, magnitude: bool, like: Float[Tensor, "*any"]) -> None:
        self.values = like.new_empty(rows, k)
        self.indices = torch.empty(rows, k, dtype=torch.long, device=like.device)
        self.magnitude = magnitude
        self.seen = 0

    def add(self, scores: Float[Tensor, "rows width"], bias: Float[Tensor, " width"] | None = None) -> None:
        """Take in scores + bias of the next latents."""
        if native.serves(scores, self.values, *([] if bias is None else [bias])):
            bias = None if bias is None else bias.contiguous()
            native.topk_update(scores.contiguous(), bias, self.seen, self.magnitude, self.values, self.indices)
        else:
            self._merge(scores if bias is None else scores + bias)
        self.seen += scores.shape[-1]

    def _merge(self, scores: Float[Tensor, "rows width"]) -> None:
        k = self.values.shape[-1]
        before = min(self.seen, k)
        found = self._places(scores, min(k, scores.shape[-1]))
        values, indices = scores.gather(-1, found), found + self.seen
        if before:
            values = torch.cat([self.values[:, :before], values], -1)
            indices = torch.cat([self.indices[:, :before], indices], -1)
            kept = self._places(values, min(k, values.shape[-1]))
            values, indices = values.gather(-1, kept), indices.gather(-1, kept)
        now = values.shape[-1]
        self.values[:, :now], self.indices[:, :now] = values, indices

    def _places(self, scores: Float[Tensor, "rows width"], k: int) -> Int[Tensor, "rows k"]:
        if triton.serves(scores, k):
            return triton.topk(scores, k, self.magnitude)[1]
        return (scores.abs() if self.magnitude else scores).topk(k, dim=-1, sorted=False).indices


def topk_indices(scores: Float[Tensor, "rows width"], k: int, magnitude: bool = False) -> Int[Tensor, "rows k"]:
    """The places of the k largest scores, or |scores|, of every row."""
    largest = Largest(len(scores), k, magnitude, scores)
    largest.add(scores)
    return largest.indices


def topk_of_linear(
    x: Float[Tensor, "batch d_in"],
    W: Float[Tensor, "d_in d_sae"],
    b: Float[Tensor, " d_sae"],
    k: int,
    magnitude: bool = False,
) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
    """As `reference.topk_of_linear`, without ever holding more than a tile of x W + b."""
    largest = Largest(len(x), k, magnitude, x)
    for latents in latent_tiles(len(x), W.shape[-1], x.device):
        largest.add(x @ W[:, latents], b[latents])
    return largest.values, largest.indices


def decode(
    values: Float[Tensor, "batch k"], indices: Int[Tensor, "batch k"], W_dec: Float[Tensor, "d_sae d_in"]
) -> Float[Tensor, "batch d_in"]:
    """As `reference.decode`."""
    return F.embedding_bag(indices, W_dec, per_sample_weights=values.to(W_dec.dtype), mode="sum")


def dot_at(
    g: Float[Tensor, "batch d_in"], W_dec: Float[Tensor, "d_sae d_in"], indices: Int[Tensor, "batch k"]
) -> Float[Tensor, "batch k"]:
    """As `reference.dot_at`."""
    g = g.to(W_dec.dtype)
    if native.serves(g, W_dec):
        return native.dot_at(g.contiguous(), W_dec.contiguous(), indices.long().contiguous())
    # The gradient of a decoding to its values is what is wanted; of tensors made in inference mode there is none.
    with torch.inference_mode(False), torch.enable_grad():
        g, W_dec, indices = (x.clone() if x.is_inference() else x for x in (g, W_dec, indices))
        values = g.new_zeros(indices.shape).requires_grad_()
        decoded = decode(values, indices, W_dec)
    return torch.autograd.grad(decoded, values, g)[0]


def weight_gradient(
    values: Float[Tensor, "batch k"], indices: Int[Tensor, "batch k"], x: Float[Tensor, "batch d_in"], d_sae: int
) -> Float[Tensor, "d_sae d_in"]:
    """As `reference.weight_gradient`: the entries in order of their latent, those of a latent summed up."""
    values = values.to(x.dtype)
    if native.serves(values, x):
        return native.weight_gradient(values.contiguous(), indices.long().contiguous(), x.contiguous(), d_sae)
    order = indices.flatten().sort(stable=True)
    starts = torch.searchsorted(order.values, torch.arange(d_sae, device=x.device))
    rows = order.indices // indices.shape[-1]
    weights = values.flatten()[order.indices]
    return F.embedding_bag(rows, x, starts, per_sample_weights=weights, mode="sum")

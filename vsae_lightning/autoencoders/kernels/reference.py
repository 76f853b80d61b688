"""What the kernels compute, written out with dense products: the specification, and the faster way where most are kept.

Every kernel file has these four functions; none of them has a gradient.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def topk_of_linear(
    x: Float[Tensor, "batch d_in"],
    W: Float[Tensor, "d_in d_sae"],
    b: Float[Tensor, " d_sae"],
    k: int,
    magnitude: bool = False,
) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
    """The k largest of x W + b in every row, or the k largest |x W + b| with their signs; values and indices."""
    pre_acts = torch.addmm(b, x, W)
    indices = (pre_acts.abs() if magnitude else pre_acts).topk(k, dim=-1, sorted=False).indices
    return pre_acts.gather(-1, indices), indices


def decode(
    values: Float[Tensor, "batch k"], indices: Int[Tensor, "batch k"], W_dec: Float[Tensor, "d_sae d_in"]
) -> Float[Tensor, "batch d_in"]:
    """sum_i values[b, i] W_dec[indices[b, i]]; an index may repeat."""
    return _dense(values, indices, len(W_dec)) @ W_dec


def dot_at(
    g: Float[Tensor, "batch d_in"], W_dec: Float[Tensor, "d_sae d_in"], indices: Int[Tensor, "batch k"]
) -> Float[Tensor, "batch k"]:
    """<g[b], W_dec[indices[b, i]]>: the gradient of the decoding to its values, or the encoding at some latents."""
    return (g @ W_dec.T).gather(-1, indices)


def weight_gradient(
    values: Float[Tensor, "batch k"], indices: Int[Tensor, "batch k"], x: Float[Tensor, "batch d_in"], d_sae: int
) -> Float[Tensor, "d_sae d_in"]:
    """Row j: sum over (b, i) with indices[b, i] = j of values[b, i] x[b]; 0 for a latent that nobody has."""
    return _dense(values, indices, d_sae).T @ x


def _dense(
    values: Float[Tensor, "batch k"], indices: Int[Tensor, "batch k"], d_sae: int
) -> Float[Tensor, "batch d_sae"]:
    return values.new_zeros(len(values), d_sae).scatter_add(-1, indices, values)

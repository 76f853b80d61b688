"""Losses and statistics are computed in float32 or better, whatever precision the passes run in."""

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_float32(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """bfloat16 and float16 become float32; float32 and float64 stay."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def squared_error(x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"]) -> Float[Tensor, " batch"]:
    """||x - x_hat||^2 of every row, summed over d_in."""
    return (at_least_float32(x) - at_least_float32(x_hat)).square().sum(-1)

"""Mean squares of all pre-activations, by an identity that needs none of them."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def mean_squares(
    x: Float[Tensor, "batch d_in"],
    center: Float[Tensor, " d_in"] | None,
    W: Float[Tensor, "d_in d_sae"],
    b: Float[Tensor, " d_sae"],
) -> Float[Tensor, " d_sae"]:
    """The mean over the batch of ((x - center) w_j + b_j)^2 for every latent j.

    It is <w_j, G w_j> + 2 b_j <w_j, m> + b_j^2 with G = E[y^T y] and m = E[y], y = x - center: one product of d_in rows
    in place of `batch`, and a gradient without any, 2 (G w_j + b_j m) to w_j and 2 (<w_j, m> + b_j) to b_j. Computed in
    float32 or better; x receives no gradient.
    """
    with torch.autocast(x.device.type, enabled=False):
        result: Tensor = _MeanSquares.apply(x, center, W, b)
    return result


class _MeanSquares(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, center: Tensor | None, W: Tensor, b: Tensor) -> Tensor:
        y = (x if center is None else x - center).to(W.dtype)
        mean = y.mean(0)
        along = W.T @ (y.T @ y / len(y))  # latent by latent, as W lies in memory
        means = mean @ W + b
        ctx.save_for_backward(W, b, mean, along, means)
        return torch.linalg.vecdot(W.T, along) + 2 * b * means - b.square()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        W, b, mean, along, means = ctx.saved_tensors
        g = 2 * gradients[0]
        to_W = torch.addcmul(along * g[:, None], (b * g)[:, None], mean).T
        to_center = -(W @ (g * means)) if ctx.needs_input_grad[1] else None
        return None, to_center, to_W, g * means

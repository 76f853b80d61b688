"""Mean squares by the Gram matrix are those of the pre-activations, and so are their gradients."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from vsae_lightning.autoencoders.kernels import mean_squares


def given(rows: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    chance = torch.Generator().manual_seed(2)
    shapes = ((rows, 5), (5,), (5, 13), (13,))
    return [torch.randn(shape, generator=chance, dtype=torch.float64).to(dtype) for shape in shapes]


@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("with_center", [True, False])
def test_the_square_of_every_pre_activation_is_averaged(rows: int, with_center: bool) -> None:
    x, center, W, b = given(rows)
    pre_acts = (x - center if with_center else x) @ W + b
    ours = mean_squares(x, center if with_center else None, W, b)
    torch.testing.assert_close(ours, pre_acts.square().mean(0), rtol=1e-12, atol=1e-12)


def test_gradients_by_finite_differences() -> None:
    x, *weights = given(7)
    assert gradcheck(lambda center, W, b: mean_squares(x, center, W, b), [w.requires_grad_() for w in weights])
    assert gradcheck(lambda W, b: mean_squares(x, None, W, b), weights[1:])


def test_the_gradient_lies_in_memory_as_the_weights_do() -> None:
    x, center, W, b = given(7, torch.float32)
    W = W.T.contiguous().T.requires_grad_()
    mean_squares(x, center, W, b).sum().backward()
    assert W.grad is not None
    assert W.grad.stride() == W.stride()


def test_half_precision_is_left_for_it() -> None:
    x, center, W, b = given(40, torch.float32)
    expected = mean_squares(x, center, W, b)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mean_squares(x, center, W, b), expected)

"""JumpReLU and Gated against the papers' equations, latent by latent."""

import math

import pytest
import torch
from torch import Tensor

import vsae_lightning as vl

D_SAE, BANDWIDTH = 4, 0.4
THETA = [0.5, 1.0, 2.0, 0.25]
# For every theta: far below, inside the window from below and above, far above (the window is theta +- 0.2).
OFFSETS = [-0.7, -0.15, 0.15, 0.7]


def jump() -> vl.JumpReLU:
    sparsifier = vl.JumpReLU(threshold=0.5, bandwidth=BANDWIDTH)
    sparsifier.fit_to(D_SAE)
    sparsifier = sparsifier.double()
    sparsifier.log_threshold.data = torch.tensor(THETA, dtype=torch.float64).log()
    return sparsifier


def scores() -> Tensor:
    return torch.tensor([[theta + offset for theta in THETA] for offset in OFFSETS], dtype=torch.float64)


def upstream() -> Tensor:
    return torch.randn(len(OFFSETS), D_SAE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_jump_relu_values() -> None:
    z = scores()
    f = jump()(z, z).dense()
    assert torch.equal(f[:2], torch.zeros(2, D_SAE, dtype=torch.float64))
    assert torch.equal(f[2:], z[2:])


def test_jump_relu_pseudo_derivative() -> None:
    """Eq. 11: d/dtheta JumpReLU = -(theta / eps) K((z - theta) / eps); d/dz = 1[z > theta]."""
    sparsifier, z, weight = jump(), scores().requires_grad_(), upstream()
    to_z, to_log = torch.autograd.grad((sparsifier(z, z).dense() * weight).sum(), [z, sparsifier.log_threshold])
    for j, theta in enumerate(THETA):
        to_theta = sum(
            -theta / BANDWIDTH * weight[i, j].item() for i, offset in enumerate(OFFSETS) if abs(offset) < 0.2
        )
        assert to_theta != 0
        assert to_log[j].item() == pytest.approx(to_theta * theta, abs=1e-12)  # d theta / d log theta = theta
        for i, offset in enumerate(OFFSETS):
            assert to_z[i, j].item() == (weight[i, j].item() if offset > 0 else 0)


def test_l0_penalty_pseudo_derivative() -> None:
    """Eq. 12: d/dtheta H(z - theta) = -(1 / eps) K((z - theta) / eps); nothing reaches z."""
    sparsifier, z = jump(), scores().requires_grad_()
    rows = torch.tensor([1.0, 2.0, 5.0, 7.0], dtype=torch.float64)
    penalty = sparsifier.penalty(z, sparsifier(z, z), torch.ones(D_SAE, dtype=torch.float64))
    assert penalty.tolist() == [0, 0, D_SAE, D_SAE]
    to_z, to_log = torch.autograd.grad((penalty * rows).sum(), [z, sparsifier.log_threshold], allow_unused=True)
    assert to_z is None
    expected = [-(2.0 + 5.0) / BANDWIDTH * theta for theta in THETA]
    torch.testing.assert_close(to_log, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_jump_relu_selects_by_the_score_and_keeps_the_value() -> None:
    """With selection by the mean the window lies around the mean, and the value is the sample."""
    sparsifier, score = jump(), scores()
    z = (score + 3).requires_grad_()
    f = sparsifier(z, score).dense()
    assert torch.equal(f, torch.where(score > torch.tensor(THETA), z, 0.0))
    to_z, to_log = torch.autograd.grad(f.sum(), [z, sparsifier.log_threshold])
    assert torch.equal(to_z, (score > torch.tensor(THETA)).double())
    expected = [-2 * theta / BANDWIDTH * theta for theta in THETA]
    torch.testing.assert_close(to_log, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_window_is_half_a_bandwidth_to_either_side() -> None:
    """On a fine grid the pseudo-derivative integrates to -theta: the area of K is 1."""
    sparsifier = vl.JumpReLU(threshold=1.0, bandwidth=0.3)
    sparsifier.fit_to(1)
    sparsifier = sparsifier.double()
    width = 1e-4
    z = torch.arange(0, 2, width, dtype=torch.float64)[:, None] + width / 2
    (gradient,) = torch.autograd.grad(sparsifier(z, z).dense().sum() * width, [sparsifier.log_threshold])
    assert gradient.item() == pytest.approx(-1.0, abs=2e-3)


def test_jump_relu_starts_at_its_threshold_and_returns_to_it() -> None:
    sparsifier = vl.JumpReLU(threshold=0.07)
    sparsifier.fit_to(3)
    start = sparsifier.log_threshold.detach().clone()
    torch.testing.assert_close(start.exp(), torch.full((3,), 0.07))
    sparsifier.log_threshold.data += torch.tensor([1.0, 2.0, 3.0])
    sparsifier.reset_(torch.tensor([True, False, True]))
    assert torch.equal(sparsifier.log_threshold.data, start + torch.tensor([0.0, 2.0, 0.0]))


def gated() -> vl.Gated:
    sparsifier = vl.Gated()
    sparsifier.fit_to(3)
    sparsifier.r.data = torch.tensor([math.log(2), 0.0, 0.0])
    sparsifier.b.data = torch.tensor([0.5, -1.0, 0.5])
    return sparsifier


def test_gated_values() -> None:
    """The gate is open where the score is positive; the magnitude 2 z + 0.5, z - 1, z + 0.5 is cut at 0."""
    z = torch.tensor([[1.0, 0.5, -0.25], [-0.25, 3.0, 2.0]])
    assert gated()(z, z).dense().tolist() == [[2.5, 0.0, 0.0], [0.0, 2.0, 2.5]]
    score = torch.tensor([[-1.0, 1.0, 1.0], [1.0, -1.0, 1.0]])
    assert gated()(z, score).dense().tolist() == [[0.0, 0.0, 0.25], [0.0, 0.0, 2.5]]


def test_gated_penalty_and_side_reconstruction_leave_the_decoder_alone() -> None:
    sparsifier = gated()
    score = torch.tensor([[2.0, -1.0, 3.0]], requires_grad=True)
    W_dec = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    b_dec = torch.tensor([1.0, 1.0], requires_grad=True)
    latents = sparsifier(score, score)
    penalty = sparsifier.penalty(score, latents, W_dec.norm(dim=-1))
    assert penalty.tolist() == [2 * 5 + 3 * 1]
    to_score, to_decoder = torch.autograd.grad(penalty.sum(), [score, W_dec], allow_unused=True)
    assert to_score.tolist() == [[5.0, 0.0, 1.0]]
    assert to_decoder is None
    x = torch.tensor([[8.0, 10.0]])
    side = sparsifier.side_error(x, score, latents, W_dec, b_dec)  # x_hat = 2 (3, 4) + 3 (0, 1) + (1, 1) = (7, 12)
    assert side.tolist() == [5.0]
    gradients = torch.autograd.grad(side.sum(), [score, W_dec, b_dec], allow_unused=True)
    assert gradients[0].tolist() == [[-2 * (3 * 1 - 4 * 2), 0.0, 4.0]]
    assert gradients[1] is None
    assert gradients[2] is None


def test_gated_returns_to_its_start() -> None:
    sparsifier = gated()
    sparsifier.reset_(torch.tensor([True, False, False]))
    assert sparsifier.r.tolist() == [0.0, 0.0, 0.0]
    assert sparsifier.b.tolist() == [0.0, -1.0, 0.5]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("name", ["threshold", "bandwidth"])
def test_bad_options_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(vl.InputError, match=f"JumpReLU: {name} is {value}"):
        vl.JumpReLU(**{name: value})

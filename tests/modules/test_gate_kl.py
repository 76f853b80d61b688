"""The gate KL by hand: value, gradient, ranks, and the ends of the scale."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import vsae_lightning as vl
from vsae_lightning.modules.gate_kl import gate_kl, usage


def soft_usage(score: list[list[float]], tau: list[float]) -> list[float]:
    rows = [[1 / (1 + math.exp(-1.7 * (s - t) / (0.1 * t))) for s in row] for row, t in zip(score, tau, strict=True)]
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


SCORE = [[1.0, 1.2, 0.9, 0.3], [0.8, 2.1, 2.0, 1.9], [0.5, 0.45, 0.4, 0.55]]
TAU = [1.0, 2.0, 0.5]


def double(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_usage_by_hand() -> None:
    expected = soft_usage(SCORE, TAU)
    assert usage(double(SCORE), double([[t] for t in TAU])).tolist() == pytest.approx(expected, abs=1e-12)
    one = usage(double(SCORE), torch.tensor(0.7, dtype=torch.float64))
    assert one.tolist() == pytest.approx(soft_usage(SCORE, [0.7] * 3), abs=1e-12)


def test_a_score_at_the_threshold_is_half_on_and_half_way_is_the_normal_distribution_function() -> None:
    """A tenth of the threshold is one standard deviation of the score."""
    f = usage(double([[3.0, 3.3, 2.4]]), double([[3.0]]))
    normal = [0.5 * math.erfc(-v / math.sqrt(2)) for v in (0, 1, -2)]
    assert f.tolist() == pytest.approx(normal, abs=0.01)
    assert f[0] == 0.5


def test_value_by_hand() -> None:
    f, p = [0.5, 0.1, 0.25, 0.9], 1 / 4
    expected = sum(q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p)) for q in f)
    assert gate_kl(torch.tensor(f, dtype=torch.float64), 1).item() == pytest.approx(expected, abs=1e-12)
    assert gate_kl(torch.full((8,), 0.25, dtype=torch.float64), 2).item() == pytest.approx(0, abs=1e-12)


def test_gradient_by_hand() -> None:
    """d/df = log(f / p) - log((1 - f) / (1 - p)); df/ds = f' of the row's sigmoid over the rows."""
    score, tau, p = double(SCORE).requires_grad_(), double([[t] for t in TAU]).requires_grad_(), 1 / 4
    (ours,) = torch.autograd.grad(gate_kl(usage(score, tau.detach()), 1), [score])
    f = soft_usage(SCORE, TAU)
    for i, t in enumerate(TAU):
        for j in range(4):
            on = 1 / (1 + math.exp(-17 * (SCORE[i][j] / t - 1)))
            outer = math.log(f[j] / p) - math.log((1 - f[j]) / (1 - p))
            assert ours[i, j].item() == pytest.approx(outer * on * (1 - on) * 17 / t / 3, abs=1e-10)


def mean_of(halves: list[Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda local: torch.stack([usage(half, torch.tensor(1.0).double()) for half in halves]).mean(0)


def test_averaged_over_ranks_the_gradient_is_that_of_the_whole() -> None:
    score = 1 + 0.2 * torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    tau = torch.tensor(1.0, dtype=torch.float64)
    whole = gate_kl(usage(score * weight, tau), 2)
    (expected,) = torch.autograd.grad(whole, [weight])
    halves = [(score * weight)[:4], (score * weight)[4:]]
    gradients = []
    for half in halves:
        local = gate_kl(usage(half, tau, mean_of([h.detach() for h in halves])), 2)
        torch.testing.assert_close(local, whole, rtol=0, atol=1e-12)
        gradients.append(torch.autograd.grad(local, [weight], retain_graph=True)[0])
    torch.testing.assert_close((gradients[0] + gradients[1]) / 2, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("score", [-1e6, -90.0, 0.0, 0.5, 1.0, 90.0, 1e6])
@pytest.mark.parametrize("tau", [-3.0, 0.0, 1.0, 50.0])
def test_nothing_overflows_where_usage_is_0_or_1(score: float, tau: float, dtype: torch.dtype) -> None:
    scores = torch.full((3, 4), score, dtype=dtype, requires_grad=True)
    kl = gate_kl(usage(scores, torch.full((3, 1), tau, dtype=dtype)), 1)
    kl.backward()
    assert kl.isfinite()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_the_ends_of_the_scale() -> None:
    """Never on: log(1 / (1 - p)); always on: log(1 / p)."""
    for value, expected in ((0.0, -4 * math.log(0.75)), (1.0, -4 * math.log(0.25))):
        f = torch.full((4,), value, dtype=torch.float64, requires_grad=True)
        kl = gate_kl(f, 1)
        assert kl.item() == pytest.approx(expected, abs=1e-10)
        kl.backward()
        assert f.grad is not None
        assert f.grad.isfinite().all()


def test_rows_of_low_precision_are_counted_in_float32() -> None:
    f = usage(torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(2, 1, dtype=torch.bfloat16))
    assert f.dtype == torch.float32


@pytest.mark.parametrize("sparsifier", [vl.TopK(8), vl.BatchTopK(8), vl.ProbabilisticTopK(8, 1.0)])
def test_as_many_active_as_latents_is_refused(sparsifier: vl.Sparsifier) -> None:
    """With k = d_sae the target is 1, and the KL to it infinite."""
    with pytest.raises(vl.InputError, match=r"gate_kl_weight is 1\.0"):
        vl.SAE(4, 8, sparsifier, gate_kl_weight=1.0)


@pytest.mark.parametrize(
    "sparsifier",
    [vl.Dense(), vl.ReLU(), vl.JumpReLU(), vl.Gated(), vl.TopK(2, by="magnitude"), vl.Matryoshka(vl.ReLU(), [4])],
)
def test_sparsifiers_without_a_count_are_refused(sparsifier: vl.Sparsifier) -> None:
    for build in (vl.SAE, vl.VSAE):
        with pytest.raises(vl.InputError, match=f"gate_kl_weight is 0.5, but .*{type(sparsifier).__name__}"):
            build(4, 8, sparsifier, gate_kl_weight=0.5, sparsity_weight=0.1)


def test_while_k_falls_the_target_falls_with_it() -> None:
    """Usage is counted against the threshold of this step's k; so is what it should be."""
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
    annealed = vl.SAE(6, 20, vl.TopK(2, k_start=8, k_anneal_steps=10), gate_kl_weight=0.3)
    constant = vl.SAE(6, 20, vl.TopK(8), gate_kl_weight=0.3)
    torch.testing.assert_close(annealed.loss(x, step=0).total, constant.loss(x, step=0).total)
    final = vl.SAE(6, 20, vl.TopK(2), gate_kl_weight=0.3)
    torch.testing.assert_close(annealed.loss(x, step=10).gate_kl, final.loss(x, step=10).gate_kl)

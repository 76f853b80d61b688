import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import paired_cosine_distances

from vsae_lightning.metrics import L0, DeadFraction, ExplainedVariance, ReconstructionCosine


def data() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(300, 5) * torch.tensor([1.0, 5.0, 0.1, 2.0, 9.0]) + torch.tensor([0.0, 100.0, 3.0, -7.0, 1.0])
    return x, x + torch.randn(300, 5)


def test_explained_variance_over_batches_is_r2_of_the_whole_split() -> None:
    x, x_hat = data()
    metric = ExplainedVariance(5)
    for rows in (slice(0, 1), slice(1, 120), slice(120, 300)):
        metric.update(x[rows], x_hat[rows])
    expected = r2_score(x.double().numpy(), x_hat.double().numpy(), multioutput="variance_weighted")
    assert metric.compute().item() == pytest.approx(expected, abs=1e-6)


def test_explained_variance_by_hand() -> None:
    metric = ExplainedVariance(1)
    metric.update(torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [4.0]]))
    assert metric.compute() == 1 - 1 / 8  # mean 2, total 4 + 4, error 1
    metric.reset()
    metric.update(torch.tensor([[0.0], [4.0]]), torch.tensor([[2.0], [2.0]]))
    assert metric.compute() == 0  # the mean explains nothing


def test_explained_variance_survives_a_large_mean() -> None:
    x, x_hat = data()
    near, far = ExplainedVariance(5), ExplainedVariance(5)
    near.update(x, x_hat)
    far.update(x.double() + 1e5, x_hat.double() + 1e5)
    assert far.compute().item() == pytest.approx(near.compute().item(), abs=1e-5)


def test_cosine() -> None:
    x, x_hat = data()
    metric = ReconstructionCosine()
    metric.update(x[:100], x_hat[:100])
    metric.update(x[100:], x_hat[100:])
    assert metric.compute().item() == pytest.approx(1 - np.mean(paired_cosine_distances(x, x_hat)), abs=1e-6)


def test_l0_is_the_mean_over_rows_not_over_batches() -> None:
    metric = L0()
    metric.update(torch.tensor([3, 5, 4]))
    metric.update(torch.tensor([8]))
    assert metric.compute() == 5.0


def test_dead_fraction_needs_silence_in_every_batch() -> None:
    metric = DeadFraction(4)
    metric.update(torch.tensor([0, 2, 0, 0]))
    metric.update(torch.tensor([1, 0, 0, 0]))
    assert metric.compute() == 0.5

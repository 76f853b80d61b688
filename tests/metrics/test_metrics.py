import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import paired_cosine_distances
from torchmetrics import Metric

from vsae_lightning.metrics import (
    L0,
    ExplainedVariance,
    ExplainedVariances,
    FeatureDensity,
    MeanActivation,
    ReconstructionCosine,
    ReconstructionError,
    RowMeans,
    SAEBenchReconstruction,
    Shrinkage,
    density_histogram,
)


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


# Two rows: of norms 5 and 1, reconstructed with norms 2.5 (same direction) and 2 (at a right angle).
X, X_HAT = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([[1.5, 2.0], [2.0, 0.0]])


def in_two(metric: Metric) -> Metric:
    metric.update(X[:1], X_HAT[:1])
    metric.update(X[1:], X_HAT[1:])
    return metric


def test_errors_by_hand() -> None:
    values = in_two(ReconstructionError()).compute()
    assert values["mse"] == (6.25 + 5) / 4
    assert values["relative_error"] == pytest.approx((6.25 + 5) / 26)


def test_shrinkage_by_hand() -> None:
    values = in_two(Shrinkage()).compute()
    assert values["l2_ratio"] == (0.5 + 2) / 2
    assert values["relative_reconstruction_bias"] == pytest.approx((6.25 + 4) / 12.5)


def test_a_rescaling_by_the_bias_is_the_best_one() -> None:
    x, x_hat = data()
    metric = Shrinkage()
    metric.update(x, x_hat)
    gamma = metric.compute()["relative_reconstruction_bias"].double()
    best = (x.double() * x_hat.double()).sum() / x_hat.double().square().sum()  # least squares of x by x_hat
    assert 1 / gamma.item() == pytest.approx(best.item(), rel=1e-6)


def test_rows_of_zeros_have_no_ratio() -> None:
    metric = Shrinkage()
    metric.update(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert metric.compute()["l2_ratio"] == 0.5


def test_mean_activation() -> None:
    metric = MeanActivation(2)
    metric.update(X[:1])
    metric.update(X[1:])
    assert metric.compute().tolist() == [1.5, 2.5]


def test_saebenchs_formulas_by_hand() -> None:
    metric = SAEBenchReconstruction()
    metric.update(X, X_HAT)
    values = {name: value.item() for name, value in metric.compute().items()}
    # mean row (1.5, 2.5), so both rows are 4.5 of it away; mean square of an entry 26 / 4
    assert values == pytest.approx(
        {
            "l2_norm_in": 3.0,
            "l2_norm_out": 2.25,
            "l2_ratio": 1.25,
            "cossim": 0.5,
            "mse": (6.25 / 2 + 5 / 2) / 2,
            "explained_variance_legacy": 1 - (6.25 / 4.5 + 5 / 4.5) / 2,
            "explained_variance": 1 - (11.25 / 2) / (13 - 6.5**2),
            "relative_reconstruction_bias": 10.25 / 12.5,
        }
    )


def test_density_and_its_histogram() -> None:
    metric = FeatureDensity(4)
    metric.update(torch.tensor([10, 1, 0, 100]), 60)
    metric.update(torch.tensor([0, 0, 0, 0]), 40)
    density = metric.compute()
    assert density.tolist() == [0.1, 0.01, 0.0, 1.0]
    edges, counts, never = density_histogram(density)
    assert (edges[0], edges[1], edges[-1], len(counts), never) == (-7, -6.75, 0, 28, 1)
    assert {edges[i]: n for i, n in enumerate(counts) if n} == {-2.0: 1, -1.0: 1, -0.25: 1}


def test_densities_below_the_lowest_bin_are_in_it() -> None:
    histogram = density_histogram(torch.tensor([1e-9, 0.0, 0.0]))
    assert (histogram.counts[0], sum(histogram.counts), histogram.never) == (1, 1, 2)


def test_rows_left_out_count_in_the_value_of_all_rows_alone() -> None:
    chance = torch.Generator().manual_seed(0)
    x, left_out = torch.randn(50, 4, generator=chance), 100 * torch.randn(3, 4, generator=chance)
    metric, kept, every = ExplainedVariances(4), ExplainedVariance(4), ExplainedVariance(4)
    metric.update(x[:20], 0.9 * x[:20])
    metric.update(left_out, 0.5 * left_out, left_out=True)
    metric.update(x[20:], 0.9 * x[20:])
    kept.update(x, 0.9 * x)
    every.update(torch.cat([x, left_out]), torch.cat([0.9 * x, 0.5 * left_out]))
    found = metric.compute()
    assert found["explained_variance"] == kept.compute()
    assert found["explained_variance_all_rows"].item() == pytest.approx(every.compute().item(), rel=1e-6)
    assert found["left_out_fraction"].item() == pytest.approx(3 / 53)


def test_without_left_out_rows_there_is_one_value() -> None:
    metric = ExplainedVariances(4)
    metric.update(torch.eye(4), 0.9 * torch.eye(4))
    assert list(metric.compute()) == ["explained_variance"]


def test_a_batch_without_rows_changes_no_mean() -> None:
    means = RowMeans(("loss",))
    means.update({"loss": torch.tensor(2.0)}, 4)
    means.update({"loss": torch.tensor(torch.nan)}, 0)
    assert means.compute() == {"loss": torch.tensor(2.0)}

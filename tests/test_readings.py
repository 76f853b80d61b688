"""Readings beside the mean: one scale and offset in closed form, and sparse samples, by independent formulas."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import vsae_lightning as vl
from fixed_rows import D_IN, rows
from vsae_lightning.autoencoders.samples import SAMPLES, Samples
from vsae_lightning.metrics import Recalibration
from vsae_lightning.readings import Readings

D_SAE, K = 48, 4
MEAN, SCALE = torch.full((D_IN,), 1.5), torch.tensor(0.4)


def made(sparsifier: vl.Sparsifier, **options: Any) -> vl.VariationalAutoencoder:
    return vl.VariationalAutoencoder(D_IN, D_SAE, sparsifier, **options).requires_grad_(False)


def explained(x: Tensor, x_hat: Tensor) -> float:
    return float(1 - (x - x_hat).square().sum() / (x - x.mean(0)).square().sum())


def test_scale_and_offset_are_those_of_least_squares() -> None:
    """Against numpy's solver, with an indicator column for every dimension's offset."""
    chance = torch.Generator().manual_seed(0)
    x_hat = torch.randn(50, 3, generator=chance) + 2
    x = 1.7 * x_hat + torch.tensor([3.0, -1.0, 0.5]) + 0.3 * torch.randn(50, 3, generator=chance)
    metric = Recalibration(3)
    for part in (slice(0, 20), slice(20, 50)):
        metric.update(x[part], x_hat[part])
    scale, offset = metric.compute()
    design = np.concatenate([x_hat.numpy().reshape(-1, 1), np.tile(np.eye(3), (50, 1))], axis=1)
    solution, *_ = np.linalg.lstsq(design, x.numpy().ravel(), rcond=None)
    assert [scale.item(), *offset.tolist()] == pytest.approx(solution.tolist(), rel=1e-4)


def test_a_constant_reconstruction_has_an_offset_alone() -> None:
    metric = Recalibration(2)
    metric.update(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.zeros(2, 2))
    scale, offset = metric.compute()
    assert [scale.item(), *offset.tolist()] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("options", [{"sigma": 0.8}, {"sigma": "learned"}, {"sigma": 0.5, "covariance": "encoder"}])
@pytest.mark.parametrize("build", [vl.TopK, vl.BatchTopK])
def test_a_sample_has_k_latents(build: Any, options: dict[str, Any]) -> None:
    samples = Samples(made(build(K), **options))
    training, held_out = (SCALE * (rows(4096, seed) - MEAN) for seed in (1, 2))
    samples.calibrate(training.split(1000), len(training))
    active = samples.read(held_out).active
    assert active.shape == (SAMPLES, 4096)
    assert active.float().mean().item() == pytest.approx(K, rel=0.03)


def test_the_mean_of_samples_is_recomputed_row_by_row() -> None:
    autoencoder = made(vl.TopK(K), sigma=0.8)
    x = SCALE * (rows(6, 1) - MEAN)
    samples = Samples(autoencoder)
    expected = torch.zeros_like(x)
    for number in range(SAMPLES):
        noise = samples._noise(x, number)
        for row in range(len(x)):
            z = autoencoder.pre_acts(x)[row] + 0.8 * noise[row]
            largest = z.argsort(descending=True)[:K]
            f = torch.zeros(D_SAE).index_put((largest,), z[largest].relu())
            expected[row] += (f @ autoencoder.W_dec + autoencoder.b_dec) / SAMPLES
    torch.testing.assert_close(samples.read(x).x_hat, expected)
    assert torch.equal(samples.read(x).x_hat, samples.read(x).x_hat)


def test_readings_are_fitted_on_training_and_measured_on_held_out_rows() -> None:
    autoencoder = made(vl.TopK(K), sigma=1.0)
    readings = Readings(autoencoder, MEAN, SCALE)
    training, held_out = rows(3000, 1), rows(2000, 2)

    def x_hat(x: Tensor) -> Tensor:
        return autoencoder(SCALE * (x - MEAN)) / SCALE + MEAN

    for part in training.split(700):
        readings.take(part, x_hat(part))
    readings.fit()
    for part in held_out.split(600):
        readings.update(part, x_hat(part))
    found = {name: float(value) for name, value in readings.compute().items()}
    mean, mean_hat = training.mean(0), x_hat(training).mean(0)
    scale = ((training - mean) * (x_hat(training) - mean_hat)).sum() / (x_hat(training) - mean_hat).square().sum()
    recalibrated = explained(held_out, scale * (x_hat(held_out) - mean_hat) + mean)
    assert found["recalibration_scale"] == pytest.approx(float(scale), rel=1e-4)
    assert found["explained_variance_recalibrated"] == pytest.approx(recalibrated, rel=1e-4)
    assert recalibrated > explained(held_out, x_hat(held_out))
    assert found["l0_sampled"] == pytest.approx(K, rel=0.01)


def test_a_model_that_does_not_sample_has_no_samples() -> None:
    readings = Readings(made(vl.TopK(K), sigma=0.0), MEAN, SCALE)
    x = rows(500, 1)
    readings.take(x, x + 1)
    readings.fit()
    readings.update(x, x + 1)
    found = readings.compute()
    assert set(found) == {"explained_variance_recalibrated", "recalibration_scale"}
    assert float(found["explained_variance_recalibrated"]) == pytest.approx(1, abs=1e-5)


def test_the_gates_of_probabilistic_topk_are_sampled() -> None:
    autoencoder = vl.SparseAutoencoder(D_IN, D_SAE, vl.ProbabilisticTopK(K, 2.0)).requires_grad_(False)
    assert Samples.can_sample(autoencoder)
    x = SCALE * (rows(100, 1) - MEAN)
    read = Samples(autoencoder).read(x)
    assert not torch.allclose(read.x_hat, autoencoder(x))
    assert read.active.max() <= K

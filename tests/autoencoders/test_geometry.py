"""The geometry of the dictionary, by hand and by an optimiser."""

import torch
from scipy.optimize import minimize

from vsae_lightning.autoencoders.geometry import (
    geometric_median,
    normalize_rows_,
    random_directions,
    remove_parallel_gradient_,
)


def test_random_directions_have_the_norm_and_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    rows = random_directions(50, 8, norm=0.1, seed=3)
    torch.testing.assert_close(rows.norm(dim=-1), torch.full((50,), 0.1))
    torch.manual_seed(2)
    assert torch.equal(rows, random_directions(50, 8, norm=0.1, seed=3))
    assert not torch.equal(rows, random_directions(50, 8, norm=0.1, seed=4))


def test_random_directions_are_uniform_on_the_sphere() -> None:
    rows = random_directions(20_000, 3, norm=1.0, seed=0)
    torch.testing.assert_close(rows.mean(0), torch.zeros(3), atol=0.02, rtol=0)
    torch.testing.assert_close(rows.T @ rows / len(rows), torch.eye(3) / 3, atol=0.02, rtol=0)


def test_normalize_rows_by_hand() -> None:
    W_dec = torch.tensor([[3.0, 4.0], [0.0, -2.0], [0.0, 0.0]])
    normalize_rows_(W_dec)
    torch.testing.assert_close(W_dec, torch.tensor([[0.6, 0.8], [0.0, -1.0], [0.0, 0.0]]))


def test_parallel_gradient_is_removed_by_hand() -> None:
    W_dec = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    grad = torch.tensor([[5.0, 7.0], [1.0, 2.0]])
    remove_parallel_gradient_(grad, W_dec)
    # second row: g . w = 2.2, so (1, 2) - 2.2 * (0.6, 0.8)
    torch.testing.assert_close(grad, torch.tensor([[0.0, 7.0], [-0.32, 0.24]]))


def test_geometric_median_minimises_the_summed_distance() -> None:
    torch.manual_seed(0)
    points = torch.randn(40, 3, dtype=torch.float64) ** 3
    found = geometric_median(points, tolerance=1e-12, iterations=2000)
    best = minimize(lambda m: (points - torch.tensor(m)).norm(dim=-1).sum().item(), points.mean(0), tol=1e-12)
    torch.testing.assert_close(found, torch.tensor(best.x), atol=1e-4, rtol=0)


def test_geometric_median_resists_an_outlier() -> None:
    points = torch.cat([torch.zeros(9, 2), torch.tensor([[1e6, 0.0]])])
    assert geometric_median(points).norm() < 1.0

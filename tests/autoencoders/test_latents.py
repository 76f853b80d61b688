"""Dense and sparse latents by hand, and against each other."""

import pytest
import torch

from vsae_lightning.autoencoders.latents import DenseLatents, Latents, SparseLatents
from vsae_lightning.autoencoders.posterior import Posterior

W_DEC = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-1.0, 5.0]])
DENSE = torch.tensor([[0.5, 0.0, -2.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
SPARSE = SparseLatents(values=torch.tensor([[-2.0, 0.5], [0.0, 1.0]]), indices=torch.tensor([[2, 0], [1, 3]]), d_sae=4)
BOTH = pytest.mark.parametrize("latents", [DenseLatents(DENSE), SPARSE], ids=["dense", "sparse"])


@BOTH
def test_dense_decode_and_counts_by_hand(latents: Latents) -> None:
    assert torch.equal(latents.dense(), DENSE)
    # 0.5 * (1, 0) - 2 * (3, 3) and 1 * (-1, 5)
    assert torch.equal(latents.decode(W_DEC), torch.tensor([[-5.5, -6.0], [-1.0, 5.0]]))
    assert latents.active_per_row().tolist() == [2, 1]
    assert latents.firing_counts().tolist() == [1, 0, 1, 1]


@BOTH
def test_l1_weighs_by_the_norms(latents: Latents) -> None:
    assert latents.l1(torch.tensor([1.0, 10.0, 100.0, 1000.0])).tolist() == [200.5, 1000.0]


@BOTH
@pytest.mark.parametrize("sigma", [0.5, torch.tensor([[0.5] * 4] * 2)], ids=["fixed", "per latent"])
def test_sum_active_counts_active_latents_alone(latents: Latents, sigma: float | torch.Tensor) -> None:
    mean = torch.tensor([[1.0, 10.0, 100.0, 1000.0], [1.0, 10.0, 100.0, 1000.0]])
    total = latents.sum_active(lambda q: q.mean + q.sigma, Posterior(mean, sigma))
    assert total.tolist() == [102.0, 1000.5]


def test_sparse_decode_has_the_gradients_of_the_dense_product() -> None:
    torch.manual_seed(0)
    indices = torch.stack([torch.randperm(9)[:3] for _ in range(5)])
    values = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    W_dec = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    sparse = SparseLatents(values, indices, 9)
    weight = torch.randn(5, 4, dtype=torch.float64)
    ours = torch.autograd.grad((sparse.decode(W_dec) * weight).sum(), [values, W_dec])
    dense = torch.zeros(5, 9, dtype=torch.float64).scatter(1, indices, values)
    expected = torch.autograd.grad((dense @ W_dec * weight).sum(), [values, W_dec])
    for mine, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)

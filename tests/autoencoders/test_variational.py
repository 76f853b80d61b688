import math

import pytest
import torch

from vsae_lightning import InputError, ReLU, TopK, VariationalAutoencoder


def test_learned_sigma_starts_at_minus_two_everywhere() -> None:
    ae = VariationalAutoencoder(4, 6, TopK(2), sigma="learned")
    sigma = ae.posterior(torch.randn(3, 4)).sigma
    assert isinstance(sigma, torch.Tensor)
    torch.testing.assert_close(sigma, torch.full((3, 6), math.exp(-1)))


def test_learned_log_variance_is_linear_and_clamped() -> None:
    ae = VariationalAutoencoder(1, 3, TopK(1), sigma="learned", pre_bias=False)
    ae.W_var.data = torch.tensor([[1.0, 100.0, -100.0]])
    sigma = ae.posterior(torch.ones(1, 1)).sigma
    assert isinstance(sigma, torch.Tensor)
    # log sigma^2 = 1 - 2, then the limits 2 and -6
    torch.testing.assert_close(sigma, torch.tensor([[math.exp(-0.5), math.exp(1), math.exp(-3)]]))


def test_relu_mean_cuts_the_mean_before_sampling() -> None:
    ae = VariationalAutoencoder(2, 2, TopK(2, by="magnitude"), sigma=1.0, relu_mean=True, pre_bias=False)
    ae.W_enc.data = torch.eye(2)
    posterior = ae.posterior(torch.tensor([[3.0, -4.0]]))
    assert posterior.mean.tolist() == [[3.0, 0.0]]
    assert posterior.sample(torch.tensor([[0.5, -0.5]])).tolist() == [[3.5, -0.5]]


def test_evaluation_uses_the_posterior_mean() -> None:
    ae = VariationalAutoencoder(4, 8, ReLU(), sigma=5.0)
    x = torch.randn(3, 4)
    assert torch.equal(ae.encode(x), ae.encode(x))
    assert torch.equal(ae.encode(x), ae.posterior(x).mean.relu())


def test_no_variance_parameters_unless_learned() -> None:
    names = {name for name, _ in VariationalAutoencoder(4, 8, ReLU(), sigma=0.3).named_parameters()}
    assert names == {"W_enc", "b_enc", "W_dec", "b_dec"}


def test_negative_sigma_is_refused() -> None:
    with pytest.raises(InputError, match=r"sigma is -0\.1"):
        VariationalAutoencoder(4, 8, ReLU(), sigma=-0.1)

"""The posterior by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.distributions import Normal, kl_divergence

from vsae_lightning import Dense, InputError, ReLU, TopK, VariationalAutoencoder


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


@pytest.mark.parametrize(("gamma", "scale"), [(0.05, 1.0), (0.4, 0.5), (2.0, 3.0)])
def test_closed_form_minimises_the_expected_error_and_the_kl(gamma: float, scale: float) -> None:
    """Per latent, E||x - sum_j z_j W_dec[j]||^2 / (2 gamma) + KL(q || N(0, scale^2)) by numerical search.

    The expectation is taken by Gauss-Hermite quadrature over the latent's own noise; the other latents are at
    their means, as their noises are independent and only add constants.
    """
    ae = VariationalAutoencoder(3, 4, Dense(), sigma="closed_form", decoder="free").double()
    generator = torch.Generator().manual_seed(0)
    ae.W_dec.data.normal_(generator=generator)
    x, mean = torch.randn(3, dtype=torch.float64, generator=generator), torch.randn(4, generator=generator).double()
    ae.set_closed_form(torch.tensor(gamma).double(), torch.tensor(scale**2).double())
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(5))

    def objective(log_sigma: float, j: int) -> float:
        sigma = math.exp(log_sigma)
        z = mean.repeat(5, 1)
        z[:, j] += sigma * nodes
        error = (weights / weights.sum() * (x - z @ ae.W_dec.data).square().sum(-1)).sum() / (2 * gamma)
        return float(error + kl_divergence(Normal(mean[j], sigma), Normal(0.0, scale)))

    ours = ae.posterior(x[None]).sigma
    assert isinstance(ours, torch.Tensor)
    for j in range(4):
        best = minimize_scalar(objective, args=(j,), bounds=(-8, 3), method="bounded", options={"xatol": 1e-9})
        assert ours[j].item() == pytest.approx(math.exp(best.x), rel=1e-5)


def test_encoder_covariance_is_that_of_samples() -> None:
    """Noise on the input gives the marginal sigma, and the covariance sigma^2 W_enc^T W_enc."""
    ae = VariationalAutoencoder(3, 5, Dense(), sigma=0.4, covariance="encoder").double()
    ae.W_enc.data.normal_(generator=torch.Generator().manual_seed(0))
    x = torch.randn(1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(200_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    z = ae.pre_acts(x + 0.4 * noise)
    posterior = ae.posterior(x)
    torch.testing.assert_close(z.mean(0), posterior.mean[0], rtol=0, atol=0.01)
    torch.testing.assert_close(z.std(0), torch.as_tensor(posterior.sigma), rtol=0.01, atol=0)
    torch.testing.assert_close(z.T.cov(), 0.16 * ae.W_enc.data.T @ ae.W_enc.data, rtol=0, atol=0.02)


def test_aligned_encoder_covariance_is_that_of_the_aligned_weights() -> None:
    ae = VariationalAutoencoder(3, 5, Dense(), sigma=0.4, covariance="encoder", encoder="aligned")
    ae.W_enc.data.normal_(generator=torch.Generator().manual_seed(0))
    for j, sigma in enumerate(torch.as_tensor(ae.posterior(torch.zeros(1, 3)).sigma).tolist()):
        row, column = ae.W_dec[j], ae.W_enc[:, j]
        column = column + (1 - column @ row) * row / (row @ row)
        assert sigma == pytest.approx(0.4 * float((column @ column) ** 0.5), rel=1e-5)

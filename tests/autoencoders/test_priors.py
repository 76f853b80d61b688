import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from vsae_lightning import InputError, StandardNormal
from vsae_lightning.autoencoders.posterior import Posterior

CASES = [(0.0, 1.0), (1.5, 0.4), (-2.0, 1.7), (0.3, 0.05)]


@pytest.mark.parametrize(("mean", "sigma"), CASES)
def test_standard_normal_kl_is_the_integral(mean: float, sigma: float) -> None:
    q = norm(mean, sigma)
    integral, _ = quad(lambda z: q.pdf(z) * (q.logpdf(z) - norm.logpdf(z)), mean - 12 * sigma, mean + 12 * sigma)
    means, sigmas = (torch.tensor([[value]], dtype=torch.float64) for value in (mean, sigma))
    assert StandardNormal().kl(Posterior(means, sigmas)).item() == pytest.approx(integral, abs=1e-8)
    assert StandardNormal().kl(Posterior(means, sigma)).item() == pytest.approx(integral, abs=1e-6)


def test_without_sampling_half_the_square_of_the_mean() -> None:
    kl = StandardNormal().kl(Posterior(torch.tensor([[3.0, -1.0, 0.0]]), 0.0))
    assert kl.tolist() == [[4.5, 0.5, 0.0]]


def test_unit_sigma_equals_no_sampling() -> None:
    mean = torch.tensor([[3.0, -1.0, 0.0]])
    assert torch.equal(StandardNormal().kl(Posterior(mean, 1.0)), StandardNormal().kl(Posterior(mean, 0.0)))


def test_mean_limit_caps_the_kl_and_its_gradient() -> None:
    mean = torch.tensor([[3.0, -12.0, 20.0]], requires_grad=True)
    kl = StandardNormal(mean_limit=10.0).kl(Posterior(mean, 0.0))
    assert kl.tolist() == [[4.5, 50.0, 50.0]]
    kl.sum().backward()
    assert mean.grad is not None
    assert mean.grad.tolist() == [[3.0, 0.0, 0.0]]


def test_bad_limit_is_refused() -> None:
    with pytest.raises(InputError, match="mean_limit is -1"):
        StandardNormal(mean_limit=-1.0)

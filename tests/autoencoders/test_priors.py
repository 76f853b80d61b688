"""The KL of every prior against its integral."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import laplace, norm
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

import vsae_lightning as vl
from vsae_lightning import InputError, StandardNormal
from vsae_lightning.autoencoders.latents import DenseLatents, SparseLatents
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


def column(value: float) -> Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


def kl_by_quadrature(mean: float, sigma: float, prior_logpdf: Callable[[float], float]) -> float:
    q = norm(mean, sigma)
    low, high = mean - 12 * sigma, mean + 12 * sigma
    kink = [0.0] if low < 0 < high else None
    integral, _ = quad(
        lambda z: q.pdf(z) * (q.logpdf(z) - prior_logpdf(z)), low, high, points=kink, limit=200, epsabs=1e-12
    )
    return float(integral)


ONE_DIMENSIONAL: list[Any] = [
    (lambda: vl.ScaledNormal(0.5), norm(0, 0.5).logpdf),
    (lambda: vl.ScaledNormal(2.0), norm(0, 2).logpdf),
    (lambda: vl.ScaledNormal("learned"), norm.logpdf),
    (lambda: vl.Laplace(0.3), laplace(0, 0.3).logpdf),
    (lambda: vl.Laplace(2.0), laplace(0, 2.0).logpdf),
]


@pytest.mark.parametrize(("prior", "logpdf"), ONE_DIMENSIONAL)
@pytest.mark.parametrize(("mean", "sigma"), [*CASES, (-0.01, 0.3), (4.0, 0.1)])
def test_kl_is_the_integral(prior: Any, logpdf: Any, mean: float, sigma: float) -> None:
    expected = kl_by_quadrature(mean, sigma, logpdf)
    for form in (column(sigma), torch.tensor([sigma], dtype=torch.float64)):
        assert prior().kl(Posterior(column(mean), form)).item() == pytest.approx(expected, abs=1e-8)
    assert prior().kl(Posterior(column(mean), sigma)).item() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("gate", [1e-6, 0.02, 0.4, 0.999])
@pytest.mark.parametrize("alpha", [0.01, 0.3])
@pytest.mark.parametrize(("mean", "sigma"), CASES)
def test_spike_and_slab_kl_is_the_sum_over_the_atom_and_the_integral_over_the_slab(
    mean: float, sigma: float, alpha: float, gate: float
) -> None:
    """With respect to delta_0 + dz, q has the density 1 - gate at the atom and gate N(mean, sigma^2) elsewhere."""
    q = norm(mean, sigma)
    slab, _ = quad(
        lambda z: gate * q.pdf(z) * (math.log(gate / alpha) + q.logpdf(z) - norm.logpdf(z)),
        mean - 12 * sigma,
        mean + 12 * sigma,
    )
    expected = slab + (1 - gate) * math.log((1 - gate) / (1 - alpha))
    for form in (column(sigma), sigma):
        kl = vl.SpikeAndSlab(alpha).kl(Posterior(column(mean), form, column(gate)))
        assert kl.item() == pytest.approx(expected, abs=1e-8)


def test_spike_and_slab_kl_is_finite_with_finite_gradient_at_certain_gates() -> None:
    gate = torch.tensor([[0.0, 1.0, 1e-300]], dtype=torch.float64, requires_grad=True)
    kl = vl.SpikeAndSlab(0.25).kl(Posterior(torch.ones(1, 3, dtype=torch.float64), 1.0, gate))
    expected = [-math.log(0.75), 0.5 - math.log(0.25), -math.log(0.75)]
    assert kl[0].tolist() == pytest.approx(expected, abs=1e-12)
    kl.sum().backward()
    assert gate.grad is not None
    assert gate.grad.isfinite().all()


@pytest.mark.parametrize(("block", "rho"), [(None, 0.3), (None, 0.95), (None, 0.0), (4, 0.3), (2, 0.8), (1, 0.5)])
@pytest.mark.parametrize("form", ["per row", "per latent", "number"])
def test_correlated_normal_kl_is_that_of_the_dense_matrix(block: int | None, rho: float, form: str) -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(3, 8, dtype=torch.float64, generator=generator)
    spread = torch.rand(3, 8, dtype=torch.float64, generator=generator) + 0.1
    sigma: Any = {"per row": spread, "per latent": spread[0], "number": 0.4}[form]
    n = block or 8
    one = (1 - rho) * torch.eye(n, dtype=torch.float64) + rho
    p = MultivariateNormal(torch.zeros(8, dtype=torch.float64), torch.block_diag(*[one] * (8 // n)))
    variances = torch.as_tensor(sigma, dtype=torch.float64).square().expand(3, 8)
    q = MultivariateNormal(mean, torch.diag_embed(variances))
    ours = vl.CorrelatedNormal(rho, block).kl(Posterior(mean, sigma)).sum(-1)
    torch.testing.assert_close(ours, kl_divergence(q, p), rtol=0, atol=1e-10)


LIMITS: list[Any] = [
    vl.StandardNormal(),
    vl.ScaledNormal(0.5),
    vl.ScaledNormal("learned"),
    vl.Laplace(0.7),
    vl.CorrelatedNormal(0.6),
    vl.CorrelatedNormal(0.6, block_size=2),
]


@pytest.mark.parametrize("prior", LIMITS)
def test_without_sampling_the_kl_is_the_limit_of_the_difference_to_mean_zero(prior: vl.Prior) -> None:
    mean = torch.tensor([[1.5, -2.0, 0.3, 0.0]], dtype=torch.float64)
    tiny = torch.full((1, 4), 1e-7, dtype=torch.float64)
    difference = prior.kl(Posterior(mean, tiny)) - prior.kl(Posterior(torch.zeros_like(mean), tiny))
    torch.testing.assert_close(prior.kl(Posterior(mean, 0.0)), difference, rtol=0, atol=1e-6)


def test_kl_is_the_mean_log_ratio_of_many_samples() -> None:
    """Monte Carlo over a million draws, three latents with a correlated, a scaled and a Laplace prior."""
    mean, sigma = torch.tensor([[0.7, -1.2, 0.1]], dtype=torch.float64), torch.tensor([[0.5, 0.9, 0.3]]).double()
    z = mean + sigma * torch.randn(1_000_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    log_q = torch.distributions.Normal(mean, sigma).log_prob(z).sum(-1)
    Sigma = 0.6 * torch.eye(3, dtype=torch.float64) + 0.4
    zero = torch.zeros(3, dtype=torch.float64)
    cases = [
        (vl.CorrelatedNormal(0.4), MultivariateNormal(zero, Sigma).log_prob(z)),
        (vl.ScaledNormal(0.5), torch.distributions.Normal(zero, 0.5).log_prob(z).sum(-1)),
        (vl.Laplace(0.8), torch.distributions.Laplace(zero, 0.8).log_prob(z).sum(-1)),
        (vl.StandardNormal(), torch.distributions.Normal(zero, 1.0).log_prob(z).sum(-1)),
    ]
    for prior, log_p in cases:
        ratio = log_q - log_p
        error = 4 * ratio.std().item() / 1000
        assert prior.kl(Posterior(mean, sigma)).sum().item() == pytest.approx(ratio.mean().item(), abs=error)


SPARSE = SparseLatents(torch.tensor([[2.0, 0.0], [1.0, 3.0]]), torch.tensor([[0, 1], [2, 0]]), 3)
MEANS = torch.tensor([[3.0, 9.0, 9.0], [1.0, 9.0, -2.0]])  # active: 3; 1 and -2


@pytest.mark.parametrize("latents", [SPARSE, DenseLatents(SPARSE.dense())], ids=["sparse", "dense"])
def test_running_scale_is_the_root_mean_square_of_active_means(latents: Any) -> None:
    prior = vl.ScaledNormal("running")
    assert prior.variance == 1
    prior.observe(Posterior(MEANS, 0.1), latents, lambda local: local)
    assert prior.variance.item() == pytest.approx((9 + 1 + 4) / 3)
    prior.observe(Posterior(2 * MEANS, 0.1), latents, lambda local: local)
    assert prior.variance.item() == pytest.approx(14 / 3 * 2.5)  # the mean of both
    expected = norm_kl(1.0, 0.1, math.sqrt(14 / 3 * 2.5))
    assert prior.kl(Posterior(column(1.0), 0.1)).item() == pytest.approx(expected, abs=1e-6)


def norm_kl(mean: float, sigma: float, scale: float) -> float:
    return math.log(scale / sigma) + (mean**2 + sigma**2) / (2 * scale**2) - 0.5


def test_running_scale_is_that_of_all_ranks() -> None:
    """Each rank hands in its sums; with the mean of both, the scale is that of all rows."""
    sums = [9.0, 5.0, 1.0, 2.0]  # of squares and of active latents, on two ranks
    means = iter([torch.tensor((sums[0] + sums[1]) / 2), torch.tensor((sums[2] + sums[3]) / 2)])
    prior = vl.ScaledNormal("running")
    prior.observe(Posterior(MEANS, 0.1), SPARSE, lambda local: next(means))
    assert prior.variance.item() == pytest.approx(14 / 3)


def test_running_scale_ignores_a_batch_without_active_latents() -> None:
    """Such a batch has no root mean square; a scale of 0 would make every KL infinite."""
    prior = vl.ScaledNormal("running")
    prior.observe(Posterior(MEANS, 0.1), DenseLatents(torch.zeros(2, 3)), lambda local: local)
    assert prior.variance == 1


@pytest.mark.parametrize("prior", [vl.ScaledNormal(0.5), vl.ScaledNormal("running"), vl.Laplace(), vl.SpikeAndSlab()])
def test_numbers_and_running_means_are_no_parameters(prior: vl.Prior) -> None:
    assert not list(prior.parameters())


def test_only_gaussians_of_one_scale_have_a_variance() -> None:
    assert vl.StandardNormal().variance == 1
    assert vl.ScaledNormal(0.5).variance == 0.25
    learned = vl.ScaledNormal("learned")
    learned.log_scale.data.fill_(math.log(3))
    assert learned.variance.item() == pytest.approx(9)
    assert not learned.variance.requires_grad
    for prior in (vl.Laplace(), vl.SpikeAndSlab(), vl.CorrelatedNormal(0.5)):
        assert prior.variance is None


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: vl.StandardNormal(mean_limit=0.0), "StandardNormal: mean_limit is 0.0"),
        (lambda: vl.StandardNormal(mean_limit=float("nan")), "StandardNormal: mean_limit is nan"),
        (lambda: vl.ScaledNormal(0.0), "ScaledNormal: scale is 0.0"),
        (lambda: vl.ScaledNormal(float("nan")), "ScaledNormal: scale is nan"),
        (lambda: vl.Laplace(-1.0), "Laplace: scale is -1.0"),
        (lambda: vl.SpikeAndSlab(0.0), "SpikeAndSlab: alpha is 0.0"),
        (lambda: vl.SpikeAndSlab(1.0), "SpikeAndSlab: alpha is 1.0"),
        (lambda: vl.CorrelatedNormal(1.0), "CorrelatedNormal: correlation is 1.0"),
        (lambda: vl.CorrelatedNormal(-0.1), "CorrelatedNormal: correlation is -0.1"),
        (lambda: vl.CorrelatedNormal(0.5, 0), "CorrelatedNormal: block_size is 0"),
        (lambda: vl.CorrelatedNormal(0.5, 3).check(8), "CorrelatedNormal: block_size is 3; it must divide d_sae, 8"),
    ],
)
def test_bad_options_are_refused_by_name(build: Any, message: str) -> None:
    with pytest.raises(vl.InputError, match=message):
        build()

"""What training observes between a loss and its gradient: by hand, and without harm to either."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import vsae_lightning as vl
from vsae_lightning.autoencoders.draw import Draw
from vsae_lightning.modules.base import AutoencoderModule

D_IN, D_SAE, K, ROWS = 6, 12, 3, 8

SPARSIFIERS: dict[str, Callable[[], vl.Sparsifier]] = {
    "dense": vl.Dense,
    "relu": vl.ReLU,
    "topk": lambda: vl.TopK(K),
    "magnitude": lambda: vl.TopK(K, by="magnitude"),
    "batch": lambda: vl.BatchTopK(K),
    "jump": vl.JumpReLU,
    "gated": vl.Gated,
    "nested": lambda: vl.Matryoshka(vl.BatchTopK(K), [4]),
}
PRIORS: dict[str, Callable[[], vl.Prior]] = {
    "standard": vl.StandardNormal,
    "scaled": lambda: vl.ScaledNormal(0.5),
    "running": lambda: vl.ScaledNormal("running"),
    "learned": lambda: vl.ScaledNormal("learned"),
    "laplace": vl.Laplace,
    "slab": vl.SpikeAndSlab,
    "correlated": lambda: vl.CorrelatedNormal(0.3),
}


def rows(seed: int = 0) -> Tensor:
    return torch.randn(ROWS, D_IN, generator=torch.Generator().manual_seed(seed))


def loss_and_gradient(module: AutoencoderModule, observe: bool) -> tuple[Tensor, list[Tensor]]:
    """One training pass in the order of `training_pass`: loss, statistics, gradient."""
    draw = Draw(5, 2, module.draw_noise(ROWS, 5, (0, 1)))
    forward = module.forward_pass(rows(), draw)
    total = module.terms(forward, 5).total
    if observe:
        module.observe(forward, draw)
    return total, list(torch.autograd.grad(total, list(module.parameters()), materialize_grads=True))


def assert_observing_is_harmless(build: Callable[[], AutoencoderModule]) -> None:
    (before, expected), (after, gradients) = (loss_and_gradient(build(), observe) for observe in (False, True))
    assert torch.equal(after, before)
    for left, right in zip(gradients, expected, strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("kind", SPARSIFIERS)
@pytest.mark.parametrize("sigma", [0.0, 0.5, "learned", "closed_form"])
def test_gradient_after_observing_for_every_sparsifier(kind: str, sigma: Any) -> None:
    assert_observing_is_harmless(
        lambda: vl.VSAE(D_IN, D_SAE, SPARSIFIERS[kind](), sigma=sigma, kl_weight="elbo", sparsity_weight=0.1)
    )


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("sigma", [0.5, "learned", "closed_form"])
def test_gradient_after_observing_for_every_prior(prior: str, sigma: Any) -> None:
    if sigma == "closed_form" and PRIORS[prior]().variance is None:
        return
    assert_observing_is_harmless(
        lambda: vl.VSAE(D_IN, D_SAE, vl.TopK(K), sigma=sigma, prior=PRIORS[prior](), kl_weight="elbo", kl_on="all")
    )


@pytest.mark.parametrize("kind", ["topk", "batch", "nested"])
def test_gradient_after_observing_with_the_covariance_of_the_encoder(kind: str) -> None:
    assert_observing_is_harmless(
        lambda: vl.VSAE(
            D_IN, D_SAE, SPARSIFIERS[kind](), sigma=0.3, covariance="encoder", kl_weight=0.0, gate_kl_weight=0.1
        )
    )


def test_residual_variance_is_the_running_mean_of_the_error_per_dimension() -> None:
    module = vl.VSAE(D_IN, D_SAE, vl.TopK(K), sigma=0.5, kl_weight="elbo", kl_warmup_steps=0)
    errors = []
    for step in range(3):
        draw = Draw(step, 1, module.draw_noise(ROWS, step, (0,)))
        forward = module.forward_pass(rows(step), draw)
        module.observe(forward, draw)
        errors.append(float(sum(((x - x_hat) ** 2).sum() for x, x_hat in zip(forward.x, forward.x_hat, strict=True))))
    expected = sum(errors) / 3 / ROWS / D_IN
    assert module.residual_variance.value.item() == pytest.approx(expected, rel=1e-5)
    kl_weight = module.loss(rows()).kl_weight
    assert kl_weight is not None
    assert float(kl_weight) == pytest.approx(2 * expected, rel=1e-5)


def test_closed_form_follows_what_was_observed() -> None:
    module = vl.VSAE(D_IN, D_SAE, vl.TopK(K), sigma="closed_form", prior=vl.ScaledNormal(0.5))
    draw = Draw(0, 1, torch.zeros(ROWS, D_SAE))
    forward = module.forward_pass(rows(), draw)
    module.observe(forward, draw)
    gamma = float((forward.x - forward.x_hat).square().mean())
    after = module.forward_pass(rows(), draw).posterior
    assert after is not None
    expected = torch.full((ROWS, K), (1 / gamma + 4) ** -0.5)
    torch.testing.assert_close(torch.as_tensor(after.sigma), expected, rtol=1e-5, atol=0)


def test_closed_form_has_a_sigma_before_training_too() -> None:
    """The sanity check validates first: a sigma of 0 there would make the KL infinite."""
    module = vl.VSAE(D_IN, D_SAE, vl.TopK(K), sigma="closed_form").eval()
    assert module.loss(rows()).total.isfinite()


@pytest.mark.parametrize("kind", SPARSIFIERS)
def test_loss_changes_no_parameter_and_no_statistic(kind: str) -> None:
    module = vl.VSAE(D_IN, D_SAE, SPARSIFIERS[kind](), sigma=0.5, sparsity_weight=0.1, prior=vl.ScaledNormal("running"))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.loss(rows(), 3)
    module.eval().loss(rows(), 3)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("kind", SPARSIFIERS)
@pytest.mark.parametrize("covariance", ["diagonal", "encoder"])
def test_evaluation_has_no_noise(kind: str, covariance: Any) -> None:
    """The posterior mean through the sparsifier as it is in evaluation, at every step."""
    module = vl.VSAE(
        D_IN, D_SAE, SPARSIFIERS[kind](), sigma=3.0, covariance=covariance, kl_weight=0.0, sparsity_weight=0.1
    ).eval()
    error = (rows() - module.autoencoder(rows())).square().sum(-1).mean()
    for step in (0, 7):
        torch.testing.assert_close(module.loss(rows(), step).reconstruction, error)


def test_parts_belong_to_one_module() -> None:
    """What one module learns or observes does not reach another that was given the same objects."""
    sparsifier, prior = vl.JumpReLU(0.5), vl.ScaledNormal("running")
    one, other = (vl.VSAE(D_IN, D_SAE, sparsifier, sigma=0.5, sparsity_weight=0.1, prior=prior) for _ in range(2))
    mine, theirs = dict(one.named_parameters()), dict(other.named_parameters())
    assert all(mine[name] is not theirs[name] for name in mine)
    draw = Draw(0, 1, one.draw_noise(ROWS, 0, (0,)))
    one.observe(one.forward_pass(rows(), draw), draw)
    assert one.prior.variance != other.prior.variance


def test_a_checkpoint_brings_back_the_seed_of_the_noise() -> None:
    one, other = vl.VSAE(D_IN, D_SAE, vl.TopK(K), seed=4), vl.VSAE(D_IN, D_SAE, vl.TopK(K), seed=5)
    checkpoint: dict[str, Any] = {"global_step": 0}
    one.on_save_checkpoint(checkpoint)
    other.on_load_checkpoint(checkpoint)
    mine, theirs = one.draw_noise(4, 7, (2,)), other.draw_noise(4, 7, (2,))
    assert mine is not None
    assert theirs is not None
    assert torch.equal(mine, theirs)

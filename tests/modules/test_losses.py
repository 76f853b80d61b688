"""Losses and gradients of SAE and VSAE against the formulas, written out row by row in NumPy-like float64."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import vsae_lightning as vl
from vsae_lightning.autoencoders.draw import Draw
from vsae_lightning.modules.base import AutoencoderModule

D_IN, D_SAE, BATCH, K = 6, 20, 9, 4


def randomised(module: AutoencoderModule) -> AutoencoderModule:
    """Generic weights in float64: nothing tied, nothing zero."""
    module = module.double()
    generator = torch.Generator().manual_seed(7)
    for parameter in module.parameters():
        parameter.data.normal_(generator=generator).mul_(0.7)
    return module


def batch() -> Tensor:
    return torch.randn(BATCH, D_IN, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def noise() -> Tensor:
    return torch.randn(BATCH, D_SAE, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def weights(module: AutoencoderModule) -> dict[str, Tensor]:
    return dict(module.autoencoder.named_parameters())


def select(z: Tensor, kind: str) -> Tensor:
    """The active latents of one row, as a mask."""
    if kind == "relu":
        return z > 0
    ranked = z if kind == "value" else z.abs()
    mask = torch.zeros_like(z, dtype=torch.bool)
    mask[ranked.argsort(descending=True)[:K]] = True
    return mask & (z > 0) if kind == "value" else mask


def sparsifier(kind: Any) -> vl.Sparsifier:
    return vl.ReLU() if kind == "relu" else vl.TopK(K, by=kind)


def assert_same_gradients(module: AutoencoderModule, ours: Tensor, reference: Tensor) -> None:
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-10)
    parameters = list(weights(module).values())
    mine = torch.autograd.grad(ours, parameters, retain_graph=True, materialize_grads=True)
    theirs = torch.autograd.grad(reference, parameters, materialize_grads=True)
    for left, right in zip(mine, theirs, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("kind", "pre_bias", "l1"), list(product(["relu", "value"], [True, False], [0.0, 0.3])))
def test_sae_loss(kind: str, pre_bias: bool, l1: float) -> None:
    module = randomised(
        vl.SAE(
            D_IN,
            D_SAE,
            sparsifier(kind),
            sparsity_weight=l1,
            sparsity_warmup_steps=10,
            pre_bias=pre_bias,
            decoder="free",
        )
    )
    x, w = batch(), weights(module)
    reference = torch.zeros((), dtype=torch.float64)
    for row in x:
        u = w["W_enc"].T @ (row - w["b_dec"] if pre_bias else row) + w["b_enc"]
        f = torch.where(select(u, kind), u, 0.0)
        error = row - (w["W_dec"].T @ f + w["b_dec"])
        penalty = sum(f[j].abs() * w["W_dec"][j].square().sum().sqrt() for j in range(D_SAE))
        reference = reference + (error @ error + l1 * (4 / 10) * penalty) / BATCH
    assert_same_gradients(module, module.loss(x, step=4).total, reference)


SAMPLED: list[Any] = [0.0, 0.8, "learned"]


@pytest.mark.parametrize(
    ("kind", "sigma", "kl_on", "relu_mean"),
    list(product(["relu", "value", "magnitude"], SAMPLED, ["all", "selected"], [False, True])),
)
def test_vsae_loss(kind: str, sigma: Any, kl_on: Any, relu_mean: bool) -> None:
    module = randomised(
        vl.VSAE(
            D_IN,
            D_SAE,
            sparsifier(kind),
            sigma=sigma,
            kl_weight=0.7,
            kl_warmup_steps=8,
            kl_on=kl_on,
            relu_mean=relu_mean,
            decoder="free",
        )
    )
    x, epsilon, w = batch(), noise(), weights(module)
    reference = torch.zeros((), dtype=torch.float64)
    for row, draw in zip(x, epsilon, strict=True):
        mu = w["W_enc"].T @ (row - w["b_dec"]) + w["b_enc"]
        mu = mu.clamp(min=0) if relu_mean else mu
        if sigma == "learned":
            log_var = (w["W_var"].T @ (row - w["b_dec"]) + w["b_var"]).clamp(-6, 2)
            z = mu + torch.exp(log_var / 2) * draw
            kl = (mu**2 + torch.exp(log_var) - 1 - log_var) / 2
        else:
            z = mu + sigma * draw
            constant = (sigma**2 - 1 - 2 * math.log(sigma)) / 2 if sigma else 0.0
            kl = mu**2 / 2 + constant
        active = select(z, kind)
        f = torch.where(active, z, 0.0)
        error = row - (w["W_dec"].T @ f + w["b_dec"])
        counted = kl.sum() if kl_on == "all" else kl[active & (f != 0)].sum()
        reference = reference + (error @ error + 0.7 * (2 / 8) * counted) / BATCH
    given = epsilon if module.autoencoder.samples else None
    assert_same_gradients(module, module.loss(x, step=2, noise=given).total, reference)


def test_published_run_is_half_the_clamped_square_on_all_latents() -> None:
    """The loss that the authors' code computes with var_flag = 0."""
    module = randomised(
        vl.VSAE(
            D_IN,
            D_SAE,
            vl.TopK(K, by="magnitude"),
            sigma=0.0,
            prior=vl.StandardNormal(mean_limit=1.5),
            kl_weight=1.0,
            kl_warmup_steps=1000,
            kl_on="all",
            relu_mean=True,
            pre_bias=False,
            decoder="free",
            decoder_norm=0.1,
            bias_init="zero",
            aux_weight=0.0,
        )
    )
    x, w = 3 * batch(), weights(module)
    mu = torch.relu(x @ w["W_enc"] + w["b_enc"])
    assert (mu > 1.5).any()
    top = mu.abs().topk(K, dim=-1)
    f = torch.zeros_like(mu).scatter(1, top.indices, mu.gather(1, top.indices))
    x_hat = f @ w["W_dec"] + w["b_dec"]
    loss = ((x - x_hat) ** 2).sum(1).mean() + 0.25 * 0.5 * (mu.clamp(-1.5, 1.5) ** 2).sum(1).mean()
    assert_same_gradients(module, module.loss(x, step=250).total, loss)


@pytest.mark.parametrize("kind", ["sae", "vsae"])
def test_aux_loss_and_its_gradient(kind: str) -> None:
    """AuxK by hand: the d_in / 2 largest dead ReLU(pre_acts) of each row reconstruct the residual."""
    cls = vl.SAE if kind == "sae" else vl.VSAE
    options: dict[str, Any] = {} if kind == "sae" else {"sigma": 0.5, "kl_weight": 0.0}
    module = randomised(cls(D_IN, D_SAE, vl.TopK(K), aux_weight=0.4, dead_after_tokens=100, **options))
    dead = torch.zeros(D_SAE, dtype=torch.bool)
    dead[[1, 5, 6, 11, 17]] = True
    module.usage.tokens_since_fired[dead] = 100
    module.usage.tokens_since_fired[~dead] = 99
    module.tokens_seen = 100
    x, w, given = batch(), weights(module), noise() if kind == "vsae" else None
    forward = module.forward_pass(x, Draw(noise=given))
    e = (x - forward.x_hat).detach()
    e_hat, reached = [], set()
    for row in x:
        u = w["W_enc"].T @ (row - w["b_dec"]) + w["b_enc"]
        chosen = sorted(dead.nonzero().flatten().tolist(), key=lambda j: -u[j].item())[: D_IN // 2]
        reached |= {j for j in chosen if u[j] > 0}
        e_hat.append(sum(u[j].clamp(min=0) * w["W_dec"][j] for j in chosen))
    reference = (e - torch.stack(e_hat)).square().sum() / (e - e.mean(0)).square().sum()
    terms = module.loss(x, noise=given)
    assert terms.aux is not None
    assert_same_gradients(module, terms.aux, reference)
    torch.testing.assert_close(terms.total, terms.reconstruction + 0.4 * terms.aux)
    encoder, decoder = torch.autograd.grad(terms.aux, [w["W_enc"], w["W_dec"]])
    assert set((encoder.abs().sum(0) > 0).nonzero().flatten().tolist()) == reached
    assert set((decoder.abs().sum(1) > 0).nonzero().flatten().tolist()) == reached
    assert len(reached) > 3


def test_aux_weighs_the_same_whatever_the_scale_of_the_input() -> None:
    """Scaled by c, every term of the loss is c^2 times what it was: AuxK, a ratio, by way of E||x||^2."""
    small = vl.SAE(D_IN, D_SAE, vl.TopK(K), dead_after_tokens=100, aux_weight=0.4, seed=1)
    large = vl.SAE(D_IN, D_SAE, vl.TopK(K), dead_after_tokens=100, aux_weight=0.4, seed=1)
    large.input_energy.fill_(9.0)
    for module in (small, large):
        module.tokens_seen = 100
        module.usage.tokens_since_fired[::2] = 100
    x = batch().float()
    one, other = small.loss(x), large.loss(3 * x)
    assert one.aux is not None
    assert one.aux > 0
    torch.testing.assert_close(other.total, 9 * one.total)
    torch.testing.assert_close(other.total - other.reconstruction, 9 * 0.4 * one.aux)


def test_aux_is_zero_with_nothing_dead_and_absent_in_evaluation() -> None:
    module = randomised(vl.SAE(D_IN, D_SAE, vl.TopK(K), dead_after_tokens=100))
    module.tokens_seen = 100
    assert module.loss(batch()).aux == 0
    module.usage.tokens_since_fired += 100
    aux = module.loss(batch()).aux
    assert aux is not None
    assert aux > 0
    module.eval()
    terms = module.loss(batch())
    assert terms.aux is None
    assert torch.equal(terms.total, terms.reconstruction)


def test_noise_is_a_function_of_seed_lane_and_row() -> None:
    module = vl.VSAE(D_IN, D_SAE, vl.TopK(K), sigma=1.0, seed=5)

    def noise(rows: int, first_row: int, *lanes: int) -> torch.Tensor:
        drawn = module.draw_noise(rows, first_row, lanes)
        assert drawn is not None
        return drawn

    both = noise(8, 12, 2, 6)
    assert torch.equal(both, torch.cat([noise(4, 12, lane) for lane in (2, 6)]))
    assert not torch.equal(both[:4], both[4:])
    other = vl.VSAE(D_IN, D_SAE, vl.TopK(K), sigma=1.0).draw_noise(8, 12, (2, 6))
    assert other is not None
    assert not torch.equal(both, other)
    large = noise(40_000, 0, 0)
    assert large.mean().abs() < 0.01
    assert (large.std() - 1).abs() < 0.01
    assert len(large[:1000].unique(dim=0)) == 1000  # no granule twice


@pytest.mark.parametrize("first_row", [0, 5, 60, 64, 130])
@pytest.mark.parametrize("rows", [1, 4, 64, 70, 200])
def test_noise_of_a_row_does_not_depend_on_the_batch_it_is_in(first_row: int, rows: int) -> None:
    module = vl.VSAE(D_IN, D_SAE, vl.TopK(K), sigma=1.0)
    whole = module.draw_noise(400, 0, (3,))
    part = module.draw_noise(rows, first_row, (3,))
    assert whole is not None
    assert part is not None
    assert torch.equal(part, whole[first_row : first_row + rows])


def test_loss_is_repeatable_and_sampling_changes_with_the_step() -> None:
    module = vl.VSAE(D_IN, D_SAE, vl.TopK(K), sigma="learned", kl_warmup_steps=0)
    x = torch.randn(BATCH, D_IN)
    assert torch.equal(module.loss(x, step=1).total, module.loss(x, step=1).total)
    assert not torch.equal(module.loss(x, step=1).reconstruction, module.loss(x, step=2).reconstruction)


def test_warm_up_is_linear_from_zero() -> None:
    module = vl.VSAE(D_IN, D_SAE, vl.TopK(K), kl_weight=2.0, kl_warmup_steps=4)
    weights_at = [module.loss(torch.randn(2, D_IN), step=step).kl_weight for step in range(6)]
    assert weights_at == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: vl.SAE(4, 8, vl.ReLU(), sparsity_weight=-1.0), "sparsity_weight is -1.0"),
        (lambda: vl.SAE(4, 8, vl.ReLU(), aux_weight=float("nan")), "aux_weight is nan"),
        (lambda: vl.SAE(4, 8, vl.ReLU(), dead_after_tokens=0), "dead_after_tokens is 0"),
        (lambda: vl.VSAE(4, 8, vl.ReLU(), kl_weight=-0.5), "kl_weight is -0.5"),
        (lambda: vl.VSAE(4, 8, vl.ReLU(), kl_warmup_steps=-3), "kl_warmup_steps is -3"),
    ],
)
def test_bad_weights_are_refused_by_name(build: Any, message: str) -> None:
    with pytest.raises(vl.InputError, match=message):
        build()


@pytest.mark.parametrize("kind", ["value", "magnitude"])
@pytest.mark.parametrize("sigma", [0.4, "learned"])
def test_the_elbo_is_that_of_all_latents(kind: Any, sigma: Any) -> None:
    """Against torch.distributions; with the KL of the selected latents alone the loss is smaller."""
    gamma, scale = 0.37, 0.8
    totals = {}
    for kl_on in ("all", "selected"):
        options: dict[str, Any] = {"kl_weight": "elbo", "kl_on": kl_on, "kl_warmup_steps": 0, "aux_weight": 0.0}
        prior = vl.ScaledNormal(scale)
        module = randomised(vl.VSAE(D_IN, D_SAE, vl.TopK(K, by=kind), sigma=sigma, prior=prior, **options))
        module.get_buffer("residual_variance.value").fill_(gamma)
        totals[kl_on] = module.loss(batch(), 0, noise()).total

    assert isinstance(module, vl.VSAE)
    noisy = module.autoencoder
    posterior = noisy.posterior(batch())
    q = torch.distributions.Normal(posterior.mean, torch.as_tensor(posterior.sigma, dtype=torch.float64))
    z = q.mean + q.stddev * noise()
    f = torch.stack([torch.where(select(row, kind), row, 0.0) for row in z])
    decoder = torch.distributions.Normal(f @ noisy.W_dec + noisy.b_dec, math.sqrt(gamma))
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, scale)).sum(-1)
    elbo = (decoder.log_prob(batch()).sum(-1) - kl).mean()
    constant = D_IN / 2 * math.log(2 * math.pi * gamma)
    torch.testing.assert_close(totals["all"] / (2 * gamma) + constant, -elbo, rtol=1e-7, atol=1e-7)
    assert totals["selected"] < totals["all"]

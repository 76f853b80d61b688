"""Losses and gradients of every sparsifier, posterior and weight against the formulas, row by row in float64."""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import vsae_lightning as vl
from vsae_lightning.modules.base import AutoencoderModule

D_IN, D_SAE, BATCH, K = 6, 12, 5, 3
SIZES = [4, 7]
TEMPERATURE, BANDWIDTH, THRESHOLD = 0.7, 0.9, 0.5
GAMMA, SCALE = 0.25, 0.5
STEP = 3

BUILD: dict[str, Callable[[], vl.Sparsifier]] = {
    "dense": vl.Dense,
    "relu": vl.ReLU,
    "value": lambda: vl.TopK(K),
    "magnitude": lambda: vl.TopK(K, by="magnitude"),
    "batch": lambda: vl.BatchTopK(K),
    "probabilistic": lambda: vl.ProbabilisticTopK(K, TEMPERATURE),
    "jump": lambda: vl.JumpReLU(THRESHOLD, BANDWIDTH),
    "gated": vl.Gated,
    "nested value": lambda: vl.Matryoshka(vl.TopK(K), SIZES),
    "nested batch": lambda: vl.Matryoshka(vl.BatchTopK(K), SIZES),
    "nested gated": lambda: vl.Matryoshka(vl.Gated(), SIZES),
}
GATED_BY_A_COUNT = ["value", "batch", "probabilistic", "nested value", "nested batch"]


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def randomised(module: AutoencoderModule) -> AutoencoderModule:
    """Generic parameters in float64; the running noise per dimension at `GAMMA`."""
    module = module.double()
    for number, parameter in enumerate(module.parameters()):
        parameter.data.copy_(0.7 * normal(*parameter.shape, seed=100 + number))
    if isinstance(module, vl.VSAE):
        module.residual_variance.value.fill_(GAMMA)
        if module.autoencoder.sigma == "closed_form":  # what `observe` does after every batch
            assert module.prior.variance is not None
            module.autoencoder.set_closed_form(module.residual_variance.value, module.prior.variance)
    return module


def sae(kind: str, **options: Any) -> AutoencoderModule:
    return randomised(vl.SAE(D_IN, D_SAE, BUILD[kind](), decoder="free", **options))


def vsae(kind: str, **options: Any) -> AutoencoderModule:
    return randomised(vl.VSAE(D_IN, D_SAE, BUILD[kind](), decoder="free", **{"kl_warmup_steps": 8, **options}))


class Reference:
    """The loss written out; it takes the module's parameters and options, and calls nothing of the package."""

    def __init__(self, module: AutoencoderModule, kind: str, x: Tensor, noise: Tensor | None, **options: Any) -> None:
        self.w = {name.split(".")[-1]: parameter for name, parameter in module.named_parameters()}
        self.kind, self.x, self.noise, self.options = kind, x, noise, options
        self.inner = kind.split()[-1]
        self.columns = [self.encoder_column(j) for j in range(D_SAE)]
        self.mu = [self.mean_of(row) for row in x]
        self.sigma = [self.sigma_of(row) for row in x]
        self.z = [self.sample(i) for i in range(len(x))]
        self.score = self.mu if options.get("select") == "mean" else self.z
        self.masks = self.select([s.detach() for s in self.score])
        self.f = [self.latents(i) for i in range(len(x))]
        self.errors = [self.error(x[i], self.f[i]) for i in range(len(x))]

    def encoder_column(self, j: int) -> Tensor:
        column, row = self.w["W_enc"][:, j], self.w["W_dec"][j]
        if self.options.get("encoder") == "aligned":
            column = column + (1 - column @ row) * row / (row @ row)
        return column

    def mean_of(self, row: Tensor) -> Tensor:
        mu = torch.stack([column @ (row - self.w["b_dec"]) for column in self.columns]) + self.w["b_enc"]
        return torch.where(mu > 0, mu, 0.0) if self.options.get("relu_mean") else mu

    def sigma_of(self, row: Tensor) -> Tensor:
        sigma = self.options.get("sigma", 0.0)
        if sigma == "learned":
            return torch.exp((self.w["W_var"].T @ (row - self.w["b_dec"]) + self.w["b_var"]).clamp(-6, 2) / 2)
        if sigma == "closed_form":
            rows, s = self.w["W_dec"].detach(), self.options["prior_scale"]
            return torch.stack([(rows[j] @ rows[j] / GAMMA + 1 / s**2) ** -0.5 for j in range(D_SAE)])
        return torch.full((D_SAE,), sigma * self.options.get("sigma_share", 1.0), dtype=torch.float64)

    def sample(self, i: int) -> Tensor:
        if self.options.get("sigma", 0.0) == 0 or self.noise is None:
            return self.mu[i]
        if self.options.get("covariance") == "encoder":
            return self.mean_of(self.x[i] + self.sigma[i][0] * self.noise[i])
        return self.mu[i] + self.sigma[i] * self.noise[i]

    def select(self, scores: list[Tensor]) -> list[Tensor]:
        """Which latents are on, per row; the gate of JumpReLU and Gated included."""
        if self.inner == "dense":
            return [torch.ones(D_SAE, dtype=torch.bool) for _ in scores]
        if self.inner == "jump":
            return [s > self.w["log_threshold"].detach().exp() for s in scores]
        if self.inner in ("relu", "gated"):
            return [s > 0 for s in scores]
        if self.inner == "batch":
            ranked = sorted(((s[j].item(), i, j) for i, s in enumerate(scores) for j in range(D_SAE)), reverse=True)
            best = {(i, j) for value, i, j in ranked[: K * len(scores)] if value > 0}
            return [torch.tensor([(i, j) in best for j in range(D_SAE)]) for i in range(len(scores))]
        return [self.best_of_row(i, s) for i, s in enumerate(scores)]

    def best_of_row(self, i: int, score: Tensor) -> Tensor:
        ranks = score.abs() if self.inner == "magnitude" else score
        if self.inner == "probabilistic":
            assert self.noise is not None
            p = [0.5 * math.erfc(-n / math.sqrt(2)) for n in self.noise[i].tolist()]
            ranks = score + TEMPERATURE * torch.tensor([math.log(q / (1 - q)) for q in p], dtype=torch.float64)
        best = sorted(range(D_SAE), key=lambda j: -ranks[j].item())[:K]
        positive = self.inner == "magnitude" or score > 0
        return torch.tensor([j in best for j in range(D_SAE)]) & positive

    def latents(self, i: int) -> Tensor:
        z, mask = self.z[i], self.masks[i]
        if self.inner == "gated":
            return torch.where(mask, torch.relu(torch.exp(self.w["r"]) * z + self.w["b"]), 0.0)
        if self.inner == "jump":
            theta = torch.exp(self.w["log_threshold"])
            return torch.where(mask, z, 0.0) + theta.detach() * self.straight_through(i)
        return torch.where(mask, z, 0.0)

    def straight_through(self, i: int) -> Tensor:
        """Zero, with the gradient -K((s - theta) / eps) / eps to theta."""
        theta = torch.exp(self.w["log_threshold"])
        window = ((self.score[i] - theta) / BANDWIDTH).abs().detach() < 0.5
        return -(theta - theta.detach()) * window / BANDWIDTH

    def error(self, row: Tensor, f: Tensor, size: int = D_SAE) -> Tensor:
        x_hat = self.w["b_dec"] + sum(f[j] * self.w["W_dec"][j] for j in range(size))
        return ((row - x_hat) ** 2).sum()

    def side(self) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for i, row in enumerate(self.x):
            if self.kind.startswith("nested"):
                total = total + sum(self.error(row, self.f[i], size) for size in SIZES)
            if self.inner == "gated":
                gate = torch.where(self.score[i] > 0, self.score[i], 0.0)
                x_hat = self.w["b_dec"].detach() + gate @ self.w["W_dec"].detach()
                total = total + ((row - x_hat) ** 2).sum()
        return total / len(self.x)

    def penalty(self) -> Tensor:
        norms = [(self.w["W_dec"][j] ** 2).sum() ** 0.5 for j in range(D_SAE)]
        total = torch.zeros((), dtype=torch.float64)
        for i in range(len(self.x)):
            for j in range(D_SAE):
                if self.inner == "gated":
                    total = total + (self.score[i][j] * norms[j].detach() if self.score[i][j] > 0 else 0)
                elif self.inner != "jump":
                    total = total + self.f[i][j].abs() * norms[j]
            if self.inner == "jump":
                total = total + self.masks[i].sum() + self.straight_through(i).sum()
        return total / len(self.x)

    def threshold(self, i: int, scores: list[Tensor]) -> Tensor:
        """The score above which a latent of row i is on."""
        if self.inner in ("value", "probabilistic"):
            return sorted(scores[i].detach(), reverse=True)[K - 1]
        if self.inner == "batch":
            every = sorted((value for s in scores for value in s.detach()), reverse=True)
            return min(value for value in every[: K * len(scores)] if value > 0)
        theta = self.w["log_threshold"].detach().exp() if self.inner == "jump" else None
        return torch.zeros(D_SAE, dtype=torch.float64) if theta is None else theta

    def gate_kl(self) -> Tensor:
        usage = torch.zeros(D_SAE, dtype=torch.float64)
        for i in range(len(self.x)):
            tau = self.threshold(i, self.score)
            usage = usage + 1 / (1 + torch.exp(-1.7 * (self.score[i] - tau) / (0.1 * tau))) / len(self.x)
        p = K / D_SAE
        return (usage * torch.log(usage / p) + (1 - usage) * torch.log((1 - usage) / (1 - p))).sum()

    def kl(self, per_latent: Callable[["Reference", int], Tensor], free_bits: float, kl_on: str) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for i in range(len(self.x)):
            for j, nats in enumerate(per_latent(self, i)):
                if kl_on == "all" or (self.masks[i][j] and self.f[i][j] != 0):
                    total = total + (nats - free_bits if nats > free_bits else 0)
        return total / len(self.x)

    def reconstruction(self) -> Tensor:
        return sum(self.errors, torch.zeros((), dtype=torch.float64)) / len(self.x)


def normal_kl(scale: float = 1.0) -> Callable[[Reference, int], Tensor]:
    """KL(N(mu, sigma^2) || N(0, scale^2)); without sampling the part that depends on mu."""

    def kl(reference: Reference, i: int) -> Tensor:
        mu, sigma = reference.mu[i], reference.sigma[i]
        spread = torch.log(scale / sigma) + sigma**2 / (2 * scale**2) - 0.5 if (sigma > 0).all() else 0.0
        return mu**2 / (2 * scale**2) + spread

    return kl


def assert_same(module: AutoencoderModule, ours: Tensor | None, reference: Tensor) -> None:
    """Value and gradient of every parameter, the prior's and the sparsifier's included."""
    assert ours is not None
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-10)
    names, parameters = zip(*module.named_parameters(), strict=True)
    mine = torch.autograd.grad(ours, parameters, retain_graph=True, materialize_grads=True)
    theirs = torch.autograd.grad(reference, parameters, retain_graph=True, materialize_grads=True)
    for name, left, right in zip(names, mine, theirs, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


def x_and_noise(width: int = D_SAE) -> tuple[Tensor, Tensor]:
    return normal(BATCH, D_IN, seed=3), normal(BATCH, width, seed=4)


@pytest.mark.parametrize(("kind", "encoder"), list(product(BUILD, ["free", "aligned"])))
def test_sae(kind: str, encoder: str) -> None:
    """Reconstruction, side reconstructions and the penalty of every sparsifier."""
    module = sae(kind, encoder=encoder, sparsity_weight=0.3, sparsity_warmup_steps=4)
    x, noise = x_and_noise()
    given = noise if kind == "probabilistic" else None
    reference = Reference(module, kind, x, given, encoder=encoder)
    terms = module.loss(x, STEP, given)
    expected = reference.reconstruction() + reference.side() + 0.3 * 3 / 4 * reference.penalty()
    assert_same(module, terms.total, expected)
    torch.testing.assert_close(terms.sparsity, reference.penalty(), rtol=0, atol=1e-10)
    assert (terms.side is not None) == (kind == "gated" or kind.startswith("nested"))
    if reference.inner == "jump":
        log_threshold = module.autoencoder.sparsifier.get_parameter(
            "log_threshold" if kind == "jump" else "sparsifier.log_threshold"
        )
        gradient = torch.autograd.grad(terms.reconstruction, log_threshold)[0]
        assert (gradient != 0).any()


@pytest.mark.parametrize(("kind", "encoder"), list(product(GATED_BY_A_COUNT, ["free", "aligned"])))
def test_sae_gate_kl(kind: str, encoder: str) -> None:
    """Weighed by the reconstruction error per active latent, without gradient to it or to the threshold."""
    module = sae(kind, encoder=encoder, gate_kl_weight=0.6, gate_kl_warmup_steps=12)
    x, noise = x_and_noise()
    given = noise if kind == "probabilistic" else None
    reference = Reference(module, kind, x, given, encoder=encoder)
    terms = module.loss(x, STEP, given)
    error, gate_kl = reference.reconstruction(), reference.gate_kl()
    assert_same(module, terms.gate_kl, gate_kl)
    assert_same(module, terms.total, error + reference.side() + 0.6 * 3 / 12 * error.detach() / K * gate_kl)


KINDS = [kind for kind in BUILD if kind != "probabilistic"]
SIGMAS: list[Any] = [0.0, 0.8, "learned", "closed_form"]


@pytest.mark.parametrize(("kind", "select", "sigma"), list(product(KINDS, ["sample", "mean"], SIGMAS)))
def test_vsae(kind: str, select: str, sigma: Any) -> None:
    """Every sparsifier with every diagonal posterior; the other options change from case to case."""
    turn = KINDS.index(kind) + SIGMAS.index(sigma)
    encoder, kl_on, relu_mean = ["free", "aligned"][turn % 2], ["all", "selected"][turn // 2 % 2], turn % 3 == 0
    options = {"sigma": sigma, "encoder": encoder, "relu_mean": relu_mean, "select": select}
    module = vsae(kind, **options, kl_weight=0.7, kl_on=kl_on, sparsity_weight=0.2)
    x, noise = x_and_noise()
    given = None if sigma == 0 else noise
    reference = Reference(module, kind, x, given, **options, prior_scale=1.0)
    terms = module.loss(x, STEP, given)
    kl = reference.kl(normal_kl(), 0.0, kl_on)
    assert_same(module, terms.kl, kl)
    expected = reference.reconstruction() + reference.side() + 0.2 * reference.penalty() + 0.7 * 3 / 8 * kl
    assert_same(module, terms.total, expected)


def test_vsae_with_probabilistic_gates_samples_the_gates_alone() -> None:
    module = vsae("probabilistic", sigma=0.0, kl_weight=0.7)
    x, noise = x_and_noise()
    reference = Reference(module, "probabilistic", x, noise)
    expected = reference.reconstruction() + 0.7 * 3 / 8 * reference.kl(normal_kl(), 0.0, "selected")
    assert_same(module, module.loss(x, STEP, noise).total, expected)


@pytest.mark.parametrize(("kind", "encoder"), list(product(KINDS, ["free", "aligned"])))
def test_vsae_with_the_covariance_of_the_encoder(kind: str, encoder: str) -> None:
    """Noise on the input, as wide as it, with its warm-up; the gradient passes through the noise."""
    options = {"sigma": 0.8, "covariance": "encoder", "encoder": encoder}
    gate_kl_weight = 0.6 if kind in GATED_BY_A_COUNT else 0.0
    module = vsae(
        kind, **options, kl_weight=0.0, sigma_warmup_steps=12, gate_kl_weight=gate_kl_weight, sparsity_weight=0.2
    )
    assert module.noise_width == D_IN
    x, noise = x_and_noise(D_IN)
    reference = Reference(module, kind, x, noise, **options, sigma_share=3 / 12)
    error = reference.reconstruction()
    expected = error + reference.side() + 0.2 * reference.penalty()
    if gate_kl_weight:
        expected = expected + 0.6 * error.detach() / K * reference.gate_kl()
    terms = module.loss(x, STEP, noise)
    assert terms.kl is None
    assert_same(module, terms.total, expected)


@pytest.mark.parametrize("step", [0, 3, 12, 50])
def test_sigma_warms_up(step: int) -> None:
    module = vsae("value", sigma=0.8, kl_weight=0.0, sigma_warmup_steps=12)
    x, noise = x_and_noise()
    reference = Reference(module, "value", x, noise, sigma=0.8, sigma_share=min(1, step / 12))
    assert_same(module, module.loss(x, step, noise).total, reference.reconstruction())


@pytest.mark.parametrize(("kl_on", "select"), list(product(["all", "selected"], ["sample", "mean"])))
def test_free_bits_are_per_latent(kl_on: str, select: str) -> None:
    module = vsae("value", sigma=0.5, select=select, kl_weight=0.7, kl_on=kl_on, free_bits=0.9)
    x, noise = x_and_noise()
    reference = Reference(module, "value", x, noise, sigma=0.5, select=select)
    kl = reference.kl(normal_kl(), 0.9, kl_on)
    assert 0 < kl < reference.kl(normal_kl(), 0.0, kl_on)
    assert_same(module, module.loss(x, STEP, noise).total, reference.reconstruction() + 0.7 * 3 / 8 * kl)


@pytest.mark.parametrize("sigma", ["learned", "closed_form"])
def test_elbo_weighs_the_kl_by_twice_the_noise_per_dimension(sigma: Any) -> None:
    """And the closed form takes its noise, and the variance of a scaled prior."""
    module = vsae("value", sigma=sigma, kl_weight="elbo", kl_warmup_steps=0, prior=vl.ScaledNormal(SCALE))
    x, noise = x_and_noise()
    reference = Reference(module, "value", x, noise, sigma=sigma, prior_scale=SCALE)
    kl = reference.kl(normal_kl(SCALE), 0.0, "selected")
    terms = module.loss(x, STEP, noise)
    assert terms.kl_weight == 2 * GAMMA
    assert_same(module, terms.total, reference.reconstruction() + 2 * GAMMA * kl)


def learned_scale(reference: Reference, i: int) -> Tensor:
    s, mu, sigma = torch.exp(reference.w["log_scale"]), reference.mu[i], reference.sigma[i]
    return torch.log(s / sigma) + (mu**2 + sigma**2) / (2 * s**2) - 0.5


def laplace(reference: Reference, i: int) -> Tensor:
    mu, sigma, b = reference.mu[i], reference.sigma[i], 0.7
    folded = sigma * math.sqrt(2 / math.pi) * torch.exp(-(mu**2) / (2 * sigma**2))
    folded = folded + mu * torch.erf(mu / (sigma * math.sqrt(2)))
    return math.log(2 * b) - torch.log(2 * math.pi * math.e * sigma**2) / 2 + folded / b


def spike_and_slab(reference: Reference, i: int) -> Tensor:
    mu, sigma, alpha = reference.mu[i], reference.sigma[i], 0.1
    tau = reference.threshold(i, reference.score)
    v = ((mu - tau) / (sigma * math.sqrt(2))).clamp(-20, 20)  # beyond, neither probability is a number
    on, off = torch.erfc(-v) / 2, torch.erfc(v) / 2
    slab = (mu**2 + sigma**2 - 1 - torch.log(sigma**2)) / 2
    return on * slab + on * torch.log(on / alpha) + off * torch.log(off / (1 - alpha))


def correlated(reference: Reference, i: int) -> Tensor:
    """By inverting the matrix; spread evenly over the latents, of which only the sum counts."""
    mu, S = reference.mu[i], torch.diag(reference.sigma[i] ** 2)
    block = 0.7 * torch.eye(4, dtype=torch.float64) + 0.3
    Sigma = torch.block_diag(block, block, block)
    inverse = torch.linalg.inv(Sigma)
    kl = torch.trace(inverse @ S) + mu @ inverse @ mu - D_SAE + torch.logdet(Sigma) - torch.logdet(S)
    return (kl / 2 / D_SAE).expand(D_SAE)


PRIORS: list[Any] = [
    (lambda: vl.ScaledNormal("learned"), learned_scale, "value"),
    (lambda: vl.Laplace(0.7), laplace, "value"),
    (lambda: vl.CorrelatedNormal(0.3, block_size=4), correlated, "value"),
    (lambda: vl.SpikeAndSlab(0.1), spike_and_slab, "value"),
    (lambda: vl.SpikeAndSlab(0.1), spike_and_slab, "batch"),
    (lambda: vl.SpikeAndSlab(0.1), spike_and_slab, "relu"),
    (lambda: vl.SpikeAndSlab(0.1), spike_and_slab, "jump"),
    (lambda: vl.SpikeAndSlab(0.1), spike_and_slab, "gated"),
]


@pytest.mark.parametrize(("prior", "per_latent", "kind"), PRIORS)
@pytest.mark.parametrize("sigma", [0.8, "learned"])
@pytest.mark.parametrize("select", ["sample", "mean"])
def test_vsae_with_every_prior(prior: Any, per_latent: Any, kind: str, sigma: Any, select: str) -> None:
    module = vsae(kind, sigma=sigma, select=select, prior=prior(), kl_weight=0.7, kl_on="all")
    x, noise = x_and_noise()
    reference = Reference(module, kind, x, noise, sigma=sigma, select=select)
    kl = reference.kl(per_latent, 0.0, "all")
    terms = module.loss(x, STEP, noise)
    assert_same(module, terms.kl, kl)
    assert_same(module, terms.total, reference.reconstruction() + reference.side() + 0.7 * 3 / 8 * kl)

"""Sparsifiers with learned gates."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vsae_lightning.autoencoders.draw import Draw
from vsae_lightning.autoencoders.latents import DenseLatents, Latents
from vsae_lightning.autoencoders.precision import squared_error
from vsae_lightning.autoencoders.sharding import local
from vsae_lightning.autoencoders.sparsifiers import Sparsifier
from vsae_lightning.errors import InputError


class JumpReLU(Sparsifier):
    """f = z H(score - theta), theta learned per latent (Rajamanoharan et al. 2024, arXiv 2407.14435, section 3).

    The step H has no gradient but a straight-through one, to theta alone, over a window around it:
    d/dtheta H(s - theta) = -K((s - theta) / bandwidth) / bandwidth, K(v) = 1 for |v| < 1/2, else 0 (eq. 11, 12);
    for f the factor theta comes before it. The penalty is the L0, sum_j H(s_j - theta_j); theta = exp(log_threshold).

    Args:
        threshold: theta at the start, in units of the pre-activations. The paper's 0.001 is for E||x||^2 = 1:
            with `scale_to: d_in` multiply by sqrt(d_in).
        bandwidth: Width of the window, in the same units.

    Raises:
        InputError: threshold or bandwidth is not positive.
    """

    needs_penalty = True
    can_shard = True
    log_threshold: Float[Tensor, " d_sae"]

    def __init__(self, threshold: float = 0.03, bandwidth: float = 0.03) -> None:
        super().__init__()
        for name, value in (("threshold", threshold), ("bandwidth", bandwidth)):
            if not value > 0:
                raise InputError(f"JumpReLU: {name} is {value}; it must be positive.")
        self.threshold = threshold
        self.bandwidth = bandwidth

    def fit_to(self, d_sae: int) -> None:
        self.log_threshold = nn.Parameter(torch.full((d_sae,), self.threshold).log())

    def forward(
        self, z: Float[Tensor, "batch d_sae"], score: Float[Tensor, "batch d_sae"], draw: Draw | None = None
    ) -> DenseLatents:
        theta = local(self.log_threshold).exp()
        step = _Step.apply(score, theta, self.bandwidth)
        hard = step.detach()
        return DenseLatents(z * hard + theta.detach() * (step - hard), self.shards)

    def penalty(
        self, score: Float[Tensor, "batch d_sae"] | None, latents: Latents, norms: Float[Tensor, " d_sae"]
    ) -> Float[Tensor, " batch"]:
        """The L0, sum_j H(score_j - theta_j), whose gradient reaches theta alone."""
        assert score is not None
        step: Tensor = _Step.apply(score, local(self.log_threshold).exp(), self.bandwidth)
        return self.shards.sum(step.sum(-1))

    def gate_threshold(self, score: Float[Tensor, "batch d_sae"] | None, latents: Latents, draw: Draw | None) -> Tensor:
        return local(self.log_threshold).detach().exp()

    @torch.no_grad()
    def reset_(self, dead: Bool[Tensor, " d_sae"]) -> None:
        self.log_threshold[dead] = torch.tensor(self.threshold, device=dead.device).log()


class Gated(Sparsifier):
    """f = 1[score > 0] ReLU(exp(r) z + b), r and b learned per latent (Rajamanoharan et al. 2024, arXiv 2404.16014).

    The pre-activation is the gate's; the magnitude shares its direction up to the factor exp(r) (the paper's tied
    weights, section 3.2), and b stands for its b_mag - exp(r) b_gate. The penalty is the L1 of the gate,
    sum_j ReLU(score_j) ||W_dec[j]||, and a side reconstruction through ReLU(score), with a frozen decoder, teaches
    the gate what the reconstruction needs (section 3.1).
    """

    needs_penalty = True
    can_shard = True
    r: Float[Tensor, " d_sae"]
    b: Float[Tensor, " d_sae"]

    def fit_to(self, d_sae: int) -> None:
        self.r = nn.Parameter(torch.zeros(d_sae))
        self.b = nn.Parameter(torch.zeros(d_sae))

    def forward(
        self, z: Float[Tensor, "batch d_sae"], score: Float[Tensor, "batch d_sae"], draw: Draw | None = None
    ) -> DenseLatents:
        return DenseLatents((local(self.r).exp() * z + local(self.b)).relu() * (score > 0), self.shards)

    def penalty(
        self, score: Float[Tensor, "batch d_sae"] | None, latents: Latents, norms: Float[Tensor, " d_sae"]
    ) -> Float[Tensor, " batch"]:
        assert score is not None
        return self.shards.sum((score.relu() * norms.detach()).sum(-1))

    def side_error(
        self,
        x: Float[Tensor, "batch d_in"],
        score: Float[Tensor, "batch d_sae"] | None,
        latents: Latents,
        W_dec: Float[Tensor, "d_sae d_in"],
        b_dec: Float[Tensor, " d_in"],
    ) -> Float[Tensor, " batch"]:
        assert score is not None
        return squared_error(x, self.shards.sum(score.relu() @ W_dec.detach()) + b_dec.detach())

    def gate_threshold(self, score: Float[Tensor, "batch d_sae"] | None, latents: Latents, draw: Draw | None) -> Tensor:
        assert score is not None
        return score.new_zeros(())

    @torch.no_grad()
    def reset_(self, dead: Bool[Tensor, " d_sae"]) -> None:
        self.r[dead] = 0
        self.b[dead] = 0


class _Step(torch.autograd.Function):
    """H(score - theta), with the straight-through gradient to theta."""

    generate_vmap_rule = True  # with `setup_context` what torch.func needs

    @staticmethod
    def forward(score: Tensor, theta: Tensor, bandwidth: float) -> Tensor:
        return (score > theta).to(score.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        score, theta, ctx.bandwidth = inputs
        ctx.save_for_backward(score, theta)
        ctx.save_for_forward(score, theta)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        score, theta = ctx.saved_tensors
        inside = ((score - theta).abs() < ctx.bandwidth / 2).to(score.dtype)
        return torch.zeros_like(score) if tangents[1] is None else -tangents[1] * inside / ctx.bandwidth

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[None, Tensor, None]:
        score, theta = ctx.saved_tensors
        inside = (score - theta).abs() < ctx.bandwidth / 2
        return None, -(gradients[0] * inside).sum(0) / ctx.bandwidth, None

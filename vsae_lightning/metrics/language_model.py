"""What a language model loses when the activations at one hook are replaced."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric


class Losses(NamedTuple):
    """Means over positions, in nats: the cross-entropy, and the KL divergence from the clean prediction."""

    cross_entropy: Tensor
    kl: Tensor


class LanguageModelLosses(Metric):
    """The `Losses` of one kind of pass. Cross-entropies and divergences are summed in float64."""

    higher_is_better = False
    full_state_update = False
    predictions: Tensor
    sum_cross_entropy: Tensor
    positions: Tensor
    sum_kl: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("predictions", "sum_cross_entropy", "positions", "sum_kl"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, cross_entropy: Float[Tensor, " predictions"], kl: Float[Tensor, " positions"]) -> None:
        """The values of counted positions; at the last of a sequence, nothing is there to predict."""
        self.predictions += len(cross_entropy)
        self.sum_cross_entropy += cross_entropy.double().sum()
        self.positions += len(kl)
        self.sum_kl += kl.double().sum()

    def compute(self) -> Losses:
        return Losses(self.sum_cross_entropy / self.predictions, self.sum_kl / self.positions)


def cross_entropies(
    log_probs: Float[Tensor, "sequences position vocabulary"], tokens: Int[Tensor, "sequences position"]
) -> Float[Tensor, "sequences predictions"]:
    """-log p(next token) at every position but the last."""
    return -log_probs[:, :-1].gather(-1, tokens[:, 1:, None]).squeeze(-1)


def kl_divergences(
    clean: Float[Tensor, "sequences position vocabulary"], other: Float[Tensor, "sequences position vocabulary"]
) -> Float[Tensor, "sequences position"]:
    """KL(clean || other) at every position, of log-probabilities."""
    return F.kl_div(other, clean, reduction="none", log_target=True).sum(-1)


def recovered(clean: Losses, zero: Losses, mean: Losses, spliced: Losses) -> dict[str, Tensor]:
    """Losses, and which part of what ablation costs is saved by splicing in the reconstruction instead.

    - `ce_loss_score`: (CE_zero - CE_spliced) / (CE_zero - CE_clean): 1 is as good as the activation, 0 no better than
      zeros (SAEBench evals/core; "loss recovered"). `ce_loss_score_mean_ablation`: the same against the mean.
    - `kl_score`: (KL_zero - KL_spliced) / KL_zero.
    """
    values = {
        "ce_loss_clean": clean.cross_entropy,
        "ce_loss_zero_ablated": zero.cross_entropy,
        "ce_loss_mean_ablated": mean.cross_entropy,
        "ce_loss_spliced": spliced.cross_entropy,
        "ce_loss_score": _saved(clean.cross_entropy, zero.cross_entropy, spliced.cross_entropy),
        "ce_loss_score_mean_ablation": _saved(clean.cross_entropy, mean.cross_entropy, spliced.cross_entropy),
        "kl_zero_ablated": zero.kl,
        "kl_mean_ablated": mean.kl,
        "kl_spliced": spliced.kl,
        "kl_score": _saved(torch.zeros_like(zero.kl), zero.kl, spliced.kl),
    }
    return {name: value.float() for name, value in values.items()}


def _saved(clean: Tensor, ablated: Tensor, spliced: Tensor) -> Tensor:
    return (ablated - spliced) / (ablated - clean)

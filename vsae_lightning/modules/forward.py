"""What a pass over a batch gives."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.autoencoders.posterior import Posterior
from vsae_lightning.autoencoders.precision import at_least_float32, squared_error


class Gate(NamedTuple):
    """What the gate KL compares usage with.

    Attributes:
        threshold: The score above which a latent is on, broadcastable to the score.
        target_l0: Latents per row that the sparsifier aims at in this pass.
    """

    threshold: Tensor
    target_l0: int


class ForwardPass(NamedTuple):
    """One pass over a batch, in scaled units; all that a loss needs.

    Attributes:
        x: The batch.
        pre_acts: What AuxK takes dead latents from.
        score: What the sparsifier selected by.
        latents: Of the sparsifier.
        x_hat: Their decoding.
        gate: For the gate KL; None without one.
        posterior: Of a vSAE; in training None where it is singular, in evaluation its marginals.
    """

    x: Float[Tensor, "batch d_in"]
    pre_acts: Float[Tensor, "batch d_sae"]
    score: Float[Tensor, "batch d_sae"]
    latents: Latents
    x_hat: Float[Tensor, "batch d_in"]
    gate: Gate | None = None
    posterior: Posterior | None = None


class TrainingPass(NamedTuple):
    """What one training batch gave: the loss, the values to log, and which latents fired."""

    loss: Float[Tensor, ""]
    values: dict[str, Tensor | float]
    active_per_row: Int[Tensor, " batch"]
    firing_counts: Int[Tensor, " d_sae"]


@torch.no_grad()
def explained_variance(forward: ForwardPass) -> Float[Tensor, ""]:
    """1 - sum ||x - x_hat||^2 / sum ||x - mean(x)||^2 over the batch."""
    x = at_least_float32(forward.x)
    return 1 - squared_error(x, forward.x_hat).sum() / (x - x.mean(0)).square().sum()

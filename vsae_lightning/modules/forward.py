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
        encoded_x: What was encoded: the batch, in training with the noise on it of a posterior like the encoder.
        latents: Of the sparsifier.
        x_hat: Their decoding.
        score: What the sparsifier selected by; None where only the selected latents were computed.
        gate: For the gate KL; None without one.
        posterior: Of a vSAE, of the selected latents alone where `score` is None; in training None where it is
            singular, in evaluation its marginals.
    """

    x: Float[Tensor, "batch d_in"]
    encoded_x: Float[Tensor, "batch d_in"]
    latents: Latents
    x_hat: Float[Tensor, "batch d_in"]
    score: Float[Tensor, "batch d_sae"] | None = None
    gate: Gate | None = None
    posterior: Posterior | None = None


class TrainingPass(NamedTuple):
    """What one training batch gave; all but the loss is of the rows of all ranks.

    Attributes:
        loss: Of this rank's rows, with its gradient.
        values: To be logged.
        l0: Active latents per row: mean, and standard deviation over rows.
        firing_counts: In how many rows each latent was active.
    """

    loss: Float[Tensor, ""]
    values: dict[str, Tensor | float]
    l0: tuple[Float[Tensor, ""], Float[Tensor, ""]]
    firing_counts: Int[Tensor, " d_sae"]


class BatchMeans(NamedTuple):
    """Means over the rows of a batch; those of all ranks are the mean of those of each."""

    x: Float[Tensor, " d_in"]
    l0: Float[Tensor, ""]


class BatchSpread(NamedTuple):
    """Mean squares over the rows of a batch, the last two about the means of all ranks."""

    error: Float[Tensor, ""]
    variance: Float[Tensor, ""]
    l0_variance: Float[Tensor, ""]

    @property
    def explained_variance(self) -> Float[Tensor, ""]:
        """1 - sum ||x - x_hat||^2 / sum ||x - mean(x)||^2."""
        return 1 - self.error / self.variance


@torch.no_grad()
def batch_means(forward: ForwardPass) -> BatchMeans:
    """Of this rank's rows."""
    return BatchMeans(at_least_float32(forward.x).mean(0), forward.latents.active_per_row().float().mean())


@torch.no_grad()
def batch_spread(forward: ForwardPass, means: BatchMeans) -> BatchSpread:
    """Of this rank's rows about `means`."""
    x = at_least_float32(forward.x)
    active = forward.latents.active_per_row().float()
    return BatchSpread(
        squared_error(x, forward.x_hat).mean(),
        (x - means.x).square().sum(-1).mean(),
        (active - means.l0).square().mean(),
    )

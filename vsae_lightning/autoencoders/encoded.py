"""What the encoder makes of a batch."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.autoencoders.posterior import Posterior


class Encoded(NamedTuple):
    """A batch, encoded and sparsified.

    Attributes:
        x: The batch, with noise on it where the posterior is that of the encoder.
        latents: As the sparsifier gives them.
        score: What it selected by; None where only what was selected was kept, and the latents have its score.
        posterior: Of a vSAE: of all latents, or of the selected ones where `score` is None. None where the sample has
            no density of its own.
    """

    x: Float[Tensor, "batch d_in"]
    latents: Latents
    score: Float[Tensor, "batch d_sae"] | None
    posterior: Posterior | None = None

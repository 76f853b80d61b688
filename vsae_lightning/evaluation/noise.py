"""Noise of an evaluation: a function of seed and row, so that the size of batches does not change it."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.autoencoders.posterior import Posterior
from vsae_lightning.autoencoders.variational import Select, VariationalAutoencoder
from vsae_lightning.seeding import GRANULE_ROWS, generator, granules


def standard_normal(purpose: str, seed: int, first_row: int, rows: int, width: int) -> Float[Tensor, "rows width"]:
    """Independent N(0, 1) for rows [first_row, first_row + rows) of an endless sequence; drawn on the CPU.

    Args:
        purpose: Of which there is a sequence each.
        seed: Another one gives another sequence.
        first_row: The place of the first row.
        rows: How many.
        width: Numbers of a row.
    """
    noise = torch.empty(rows, width)
    for granule, wanted, place in granules(first_row, rows):
        noise[place] = torch.randn(GRANULE_ROWS, width, generator=generator("cpu", purpose, seed, granule))[wanted]
    return noise


def input_noise(x: Float[Tensor, "rows d_in"], share: float, seed: int, first_row: int) -> Float[Tensor, "rows d_in"]:
    """share ||x|| u of every row, u uniform on the sphere; the same u for every share."""
    normal = standard_normal("input noise", seed, first_row, *x.shape).to(x.device)
    return share * x.norm(dim=-1, keepdim=True) * F.normalize(normal, dim=-1)


def sampled_latents(
    autoencoder: VariationalAutoencoder,
    select: Select,
    seed: int,
    x: Float[Tensor, "rows d_in"],
    first_row: int,
    posterior: Posterior | None = None,
) -> Latents:
    """Sampled as in training, sparsified as in evaluation: rows do not compete with each other, k is final.

    Args:
        autoencoder: One that samples.
        select: Whether latents are selected by the sample or by the mean, where the posterior is diagonal.
        seed: Of the noise.
        x: Activations.
        first_row: The place of the first of them in all that are read.
        posterior: That of x, where it has been computed already.
    """
    width = autoencoder.d_in if autoencoder.covariance == "encoder" else autoencoder.d_sae
    noise = standard_normal("posterior", seed, first_row, len(x), width).to(x.device)
    if autoencoder.covariance == "encoder":
        assert not isinstance(autoencoder.sigma, str)
        return autoencoder.latents(x + autoencoder.sigma * noise)
    posterior = posterior or autoencoder.posterior(x)
    z = posterior.sample(noise)
    latents: Latents = autoencoder.sparsifier(z, z if select == "sample" else posterior.mean)
    return latents

"""Resampling: dead latents start anew from inputs that are badly reconstructed."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vsae_lightning.autoencoders.base import SparseAutoencoder

ENCODER_NORM = 0.2  # of a restarted latent, as a part of the mean of the living


@torch.no_grad()
def resample_dead_(
    autoencoder: SparseAutoencoder,
    optimizer: torch.optim.Optimizer,
    dead: Bool[Tensor, " d_sae"],
    x: Float[Tensor, "batch d_in"],
    errors: Float[Tensor, " batch"],
    generator: torch.Generator,
) -> None:
    """Restart the dead latents along inputs drawn with probability proportional to ||x - x_hat||^4, in place.

    Decoder row and encoder column point along the input (less b_dec with `pre_bias`), the encoder's norm is
    0.2 of the mean of the living, the bias is 0, and the optimizer forgets them (Bricken et al. 2023, appendix
    "Neuron resampling", where the loss that is squared is ||x - x_hat||^2).

    Args:
        autoencoder: Whose latents.
        optimizer: Whose state of these latents is set to zero.
        dead: Which latents.
        x: Candidates, in scaled units, the same on all ranks.
        errors: ||x - x_hat||^2 of each.
        generator: Of the draw, on the CPU.
    """
    number = int(dead.sum())
    chances = errors.double().square().cpu()
    if number == 0 or number == len(dead) or not chances.any():
        return
    drawn = torch.multinomial(chances, number, replacement=True, generator=generator)
    directions = torch.nn.functional.normalize(autoencoder.encoder_input(x[drawn.to(x.device)]), dim=-1)
    norm = ENCODER_NORM * autoencoder.encoder_weights()[:, ~dead].norm(dim=0).mean()
    autoencoder.restart_(dead, directions.to(autoencoder.W_dec.dtype), norm)
    for parameter, dim in autoencoder.per_latent_parameters():
        for state in optimizer.state.get(parameter, {}).values():
            if isinstance(state, Tensor) and state.shape == parameter.shape:
                state.movedim(dim, 0)[dead] = 0


def in_lane_order(gathered: Float[Tensor, "ranks rows *rest"], lanes: int) -> Float[Tensor, "all *rest"]:
    """Rows of all ranks as one rank would have them; rank r has lanes r, r + W, ..., `lanes` of them."""
    ranks = gathered.shape[0]
    return gathered.unflatten(1, (lanes, -1)).transpose(0, 1).flatten(0, 2) if ranks > 1 else gathered.flatten(0, 1)

"""The sparse autoencoder: parameters, encode, sparsify, decode."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vsae_lightning.autoencoders.geometry import random_directions
from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.autoencoders.parts import Part
from vsae_lightning.autoencoders.sparsifiers import Sparsifier
from vsae_lightning.errors import InputError


class SparseAutoencoder(Part):
    """pre_acts = W_enc^T (x - b_dec) + b_enc; latents = sparsifier(pre_acts); x_hat = W_dec^T latents + b_dec.

    Starts with W_dec uniform on the sphere of radius `decoder_norm`, W_enc = W_dec^T and zero biases
    (Gao et al. 2024, arXiv 2406.04093, section 2.4).

    Args:
        d_in: Width of the activations.
        d_sae: Number of latents.
        sparsifier: Pre-activations to latents.
        pre_bias: Subtract b_dec from x before encoding.
        decoder: "unit": decoder rows are kept at norm 1 in training. "free": they are not.
        decoder_norm: Norm of the decoder rows at the start; must be 1 for a unit decoder.
        seed: Of the initial weights.

    Raises:
        InputError: A size or norm out of range, or a sparsifier that asks for more latents than there are.
    """

    W_enc: Float[Tensor, "d_in d_sae"]
    b_enc: Float[Tensor, " d_sae"]
    W_dec: Float[Tensor, "d_sae d_in"]
    b_dec: Float[Tensor, " d_in"]

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        sparsifier: Sparsifier,
        pre_bias: bool = True,
        decoder: Literal["unit", "free"] = "unit",
        decoder_norm: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, size in (("d_in", d_in), ("d_sae", d_sae)):
            if size < 1:
                raise InputError(f"{name} is {size}; it must be at least 1.")
        if decoder_norm <= 0 or (decoder == "unit" and decoder_norm != 1):
            required = "1 with decoder: unit" if decoder == "unit" else "positive"
            raise InputError(f"decoder_norm is {decoder_norm}; it must be {required}.")
        sparsifier.check(d_sae)
        self.d_in = d_in
        self.d_sae = d_sae
        self.sparsifier = sparsifier
        self.pre_bias = pre_bias
        self.decoder = decoder
        self.decoder_norm = decoder_norm
        self.seed = seed
        directions = random_directions(d_sae, d_in, decoder_norm, seed)
        self.W_enc = nn.Parameter(directions.T.contiguous())
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.W_dec = nn.Parameter(directions)
        self.b_dec = nn.Parameter(torch.zeros(d_in))

    def encoder_input(self, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_in"]:
        return x - self.b_dec if self.pre_bias else x

    def pre_acts(self, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_sae"]:
        return torch.addmm(self.b_enc, self.encoder_input(x), self.W_enc)

    def latents(self, x: Float[Tensor, "batch d_in"]) -> Latents:
        """The latents as the sparsifier gives them: without noise, and sparse where it is sparse."""
        return self.sparsifier(self.pre_acts(x))

    def reconstruct(self, latents: Latents) -> Float[Tensor, "batch d_in"]:
        return latents.decode(self.W_dec) + self.b_dec

    def encode(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_sae"]:
        return self.latents(x.reshape(-1, self.d_in)).dense().reshape(*x.shape[:-1], self.d_sae)

    def decode(self, latents: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_in"]:
        return latents @ self.W_dec + self.b_dec

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_in"]:
        """x_hat, the reconstruction."""
        return self.reconstruct(self.latents(x.reshape(-1, self.d_in))).reshape(x.shape)

    @torch.no_grad()
    def fold_input_scaling(self, mean: Float[Tensor, " d_in"], scale: Float[Tensor, ""]) -> None:
        """Turn an autoencoder of scale * (x - mean) into the equal one of x, in place.

        Latents keep their values, so that a posterior and its prior keep their units; the decoder rows
        are divided by `scale`, and so no longer of norm 1.
        """
        for weights in self._encoder_weights():
            weights.mul_(scale)
        if not self.pre_bias:
            for weights, bias in zip(self._encoder_weights(), self._encoder_biases(), strict=True):
                bias.sub_(mean @ weights)
        self.decoder = "free"
        self.W_dec.div_(scale)
        self.b_dec.div_(scale).add_(mean)

    def _encoder_weights(self) -> list[Tensor]:
        return [self.W_enc]

    def _encoder_biases(self) -> list[Tensor]:
        return [self.b_enc]

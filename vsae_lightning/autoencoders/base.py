"""The sparse autoencoder: parameters, encode, sparsify, decode."""

from copy import deepcopy
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vsae_lightning.autoencoders import kernels
from vsae_lightning.autoencoders.draw import Draw
from vsae_lightning.autoencoders.encoded import Encoded
from vsae_lightning.autoencoders.geometry import random_directions
from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.autoencoders.parts import Part
from vsae_lightning.autoencoders.sharding import WHOLE, Shards, local
from vsae_lightning.autoencoders.sparsifiers import Sparsifier
from vsae_lightning.errors import InputError


class SparseAutoencoder(Part):
    """pre_acts = W_enc^T (x - b_dec) + b_enc; latents = sparsifier(pre_acts); x_hat = W_dec^T latents + b_dec.

    An aligned encoder has <w_j, W_dec[j]> = 1 for every latent (Brzozowski & Chung 2026, arXiv 2605.18629):
    the parameter is free, and w_j = W_enc[:, j] + (1 - <W_enc[:, j], W_dec[j]>) W_dec[j] / ||W_dec[j]||^2, its
    projection onto the constraint, is used; the gradient passes through. (The paper's abstract names the constraint;
    its own reparameterisation was not at hand. The projection is defined for every W_enc and leaves a tied start
    with unit rows as it is.)

    Starts with W_dec uniform on the sphere of radius `decoder_norm`, W_enc = W_dec^T and zero biases
    (Gao et al. 2024, arXiv 2406.04093, section 2.4).

    Args:
        d_in: Width of the activations.
        d_sae: Number of latents.
        sparsifier: Pre-activations to latents.
        pre_bias: Subtract b_dec from x before encoding.
        encoder: "free", or "aligned" with the decoder.
        decoder: "unit": decoder rows are kept at norm 1 in training. "free": they are not.
        decoder_norm: Norm of the decoder rows at the start; must be 1 for a unit decoder.
        seed: Of the initial weights.

    Raises:
        InputError: A size or norm out of range, or a sparsifier that asks for more latents than there are.
    """

    W_enc: Float[nn.Parameter, "d_in d_sae"]
    b_enc: Float[nn.Parameter, " d_sae"]
    W_dec: Float[nn.Parameter, "d_sae d_in"]
    b_dec: Float[nn.Parameter, " d_in"]
    shards: Shards = WHOLE

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        sparsifier: Sparsifier,
        pre_bias: bool = True,
        encoder: Literal["free", "aligned"] = "free",
        decoder: Literal["unit", "free"] = "unit",
        decoder_norm: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, size in (("d_in", d_in), ("d_sae", d_sae)):
            if size < 1:
                raise InputError(f"{name} is {size}; it must be at least 1.")
        if not decoder_norm > 0 or (decoder == "unit" and decoder_norm != 1):
            required = "1 with decoder: unit" if decoder == "unit" else "positive"
            raise InputError(f"decoder_norm is {decoder_norm}; it must be {required}.")
        sparsifier = deepcopy(sparsifier)  # its parameters are this dictionary's
        sparsifier.fit_to(d_sae)
        self.d_in = d_in
        self.d_sae = d_sae
        self.sparsifier = sparsifier
        self.pre_bias = pre_bias
        self.encoder = encoder
        self.decoder = decoder
        self.decoder_norm = decoder_norm
        self.seed = seed
        directions = random_directions(d_sae, d_in, decoder_norm, seed)
        # Latent by latent in memory, as the decoder: a sparse product reads and writes whole latents.
        self.W_enc = nn.Parameter(directions.clone().T)
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.W_dec = nn.Parameter(directions)
        self.b_dec = nn.Parameter(torch.zeros(d_in))

    def encoder_input(self, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_in"]:
        return self.shards.copy(x - local(self.b_dec) if self.pre_bias else x)

    def encoder_weights(self) -> Float[Tensor, "d_in d_sae"]:
        """W_enc, aligned with the decoder where it is to be."""
        W_enc, W_dec = local(self.W_enc), local(self.W_dec)
        if self.encoder == "free":
            return W_enc
        missing = (1 - (W_enc.T * W_dec).sum(-1)) / W_dec.square().sum(-1)
        return W_enc + (missing[:, None] * W_dec).T

    def pre_acts(self, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_sae"]:
        return torch.addmm(local(self.b_enc), self.encoder_input(x), self.encoder_weights())

    def evaluation_scores(self, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_sae"]:
        """What the sparsifier selects by in evaluation: in a vSAE the posterior mean, without noise."""
        return self.pre_acts(x)

    def encoded(self, x: Float[Tensor, "batch d_in"], draw: Draw | None = None, keep_all: bool = False) -> Encoded:
        """Encode and sparsify a batch.

        Args:
            x: The batch.
            draw: That of a training batch; None in evaluation.
            keep_all: Compute the scores of all latents, also where the sparsifier needs but the largest.
        """
        choice = None if keep_all else self.sparsifier.choice(draw)
        if choice is None:
            pre_acts = self.pre_acts(x)
            return Encoded(x, self.sparsifier(pre_acts, pre_acts, draw), pre_acts)
        pre_acts, indices = self.largest_pre_acts(x, self.encoder_weights(), choice.k, choice.magnitude)
        return Encoded(x, choice.of_largest(pre_acts, pre_acts, indices, len(local(self.b_enc))), None)

    def largest_pre_acts(
        self,
        x: Float[Tensor, "batch d_in"],
        W: Float[Tensor, "d_in d_sae"],
        k: int,
        magnitude: bool = False,
        among: Int[Tensor, " some"] | None = None,
    ) -> tuple[Float[Tensor, "batch offered"], Int[Tensor, "batch offered"]]:
        """Of each row the k largest pre-activations, or |pre-activations|, and which latents have them.

        W are the `encoder_weights`. Sharded, they are the largest that this rank has. `among`: of these latents alone.
        """
        b = local(self.b_enc)
        own, biases = (W, b) if among is None else (W.T[among].T, b[among])
        values, indices = kernels.topk_of_linear(self._centered(x), own, biases, min(k, len(biases)), magnitude)
        indices = indices if among is None else among[indices]
        return kernels.linear_at(self.shards.copy(x), self._center(), W, b, indices, values), indices

    def latents(self, x: Float[Tensor, "batch d_in"]) -> Latents:
        """The latents as the sparsifier gives them: without noise, and sparse where it is sparse.

        Raises:
            InputError: x is not of the width `d_in`.
        """
        return self.encoded(self._rows(x)).latents

    def reconstruct(self, latents: Latents) -> Float[Tensor, "batch d_in"]:
        return latents.decode(local(self.W_dec)) + local(self.b_dec)

    def encode(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_sae"]:
        """The latents of x, dense, in the precision of the weights.

        Raises:
            InputError: The last dimension of x is not `d_in`.
        """
        return self.latents(self._rows(x)).dense().reshape(*x.shape[:-1], self.d_sae)

    def decode(self, latents: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_in"]:
        """The reconstruction from dense latents, in the precision of the weights.

        Raises:
            InputError: The last dimension of the latents is not `d_sae`.
        """
        rows = _rows(latents, "latents", "d_sae", self.d_sae, self.b_dec.dtype)
        return (rows @ self.W_dec + self.b_dec).reshape(*latents.shape[:-1], self.d_in)

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_in"]:
        """x_hat, the reconstruction, in the precision of the weights.

        Raises:
            InputError: The last dimension of x is not `d_in`.
        """
        return self.reconstruct(self.latents(self._rows(x))).reshape(x.shape)

    @torch.no_grad()
    def fold_input_scaling(self, mean: Float[Tensor, " d_in"], scale: Float[Tensor, ""]) -> None:
        """Turn an autoencoder of scale * (x - mean) into the equal one of x, in place.

        Latents keep their values, so that a posterior, its prior and a threshold keep their units; the decoder
        rows are divided by `scale`, and so no longer of norm 1. An aligned encoder becomes the free one that it is.
        """
        self.W_enc.copy_(self.encoder_weights())
        self.encoder = "free"
        for weights in self._encoder_weights():
            weights.mul_(scale)
        if not self.pre_bias:
            for weights, bias in zip(self._encoder_weights(), self._encoder_biases(), strict=True):
                bias.sub_(mean @ weights)
        self.decoder = "free"
        self.W_dec.div_(scale)
        self.b_dec.div_(scale).add_(mean)

    @torch.no_grad()
    def restart_(self, dead: Bool[Tensor, " d_sae"], directions: Float[Tensor, "dead d_in"], norm: Tensor) -> None:
        """Point the `dead` latents' decoder rows along unit `directions`, their encoders too, with norm `norm`.

        An aligned encoder has norm 1 / decoder_norm whatever `norm` is: its inner product with the row is 1.
        Biases, and the parameters of the sparsifier, start anew.
        """
        self.W_dec[dead] = self.decoder_norm * directions
        self.W_enc[:, dead] = norm * directions.T
        self.b_enc[dead] = 0
        self.sparsifier.reset_(dead)

    def per_latent_parameters(self) -> list[tuple[nn.Parameter, int]]:
        """Every parameter that has a part for each latent, with the dimension that counts latents."""
        rows = [self.W_dec, *self._encoder_biases(), *self.sparsifier.parameters()]
        return [(weights, 1) for weights in self._encoder_weights()] + [(parameter, 0) for parameter in rows]

    def shard_(self, shards: Shards) -> None:
        """Keep, of everything that has a part for each latent, this rank's slice alone, in place.

        Parameters become DTensors; buffers, a few numbers per latent, stay whole on every rank.
        """
        dims = dict(self.per_latent_parameters())
        for part in self.modules():
            for name, parameter in list(part.named_parameters(recurse=False)):
                setattr(part, name, shards.distribute(parameter, dims.get(parameter)))
        self.shards = self.sparsifier.shards = shards

    def _rows(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "rows d_in"]:
        return _rows(x, "x", "d_in", self.d_in, self.b_dec.dtype)

    def _center(self) -> Float[Tensor, " d_in"] | None:
        """What is subtracted from every row before it is encoded."""
        return self.shards.copy(local(self.b_dec)) if self.pre_bias else None

    def _centered(self, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_in"]:
        """The encoder's input, without gradient."""
        return x.detach() - local(self.b_dec.detach()) if self.pre_bias else x.detach()

    def _encoder_weights(self) -> list[nn.Parameter]:
        return [self.W_enc]

    def _encoder_biases(self) -> list[nn.Parameter]:
        return [self.b_enc]


def _rows(
    x: Float[Tensor, "*any"], name: str, size: str, width: int, dtype: torch.dtype
) -> Float[Tensor, "batch width"]:
    """x as a matrix in this precision, refused where its last dimension is not `width`: else rows would be mixed."""
    if x.ndim == 0 or x.shape[-1] != width:
        raise InputError(f"{name} is {list(x.shape)}; its last dimension must be {size}, {width}. Is it transposed?")
    return x.reshape(-1, width).to(dtype)

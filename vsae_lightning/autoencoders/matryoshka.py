"""Matryoshka: dictionaries nested in each other."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from vsae_lightning.autoencoders.choice import Choice
from vsae_lightning.autoencoders.draw import Draw
from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.autoencoders.precision import squared_error
from vsae_lightning.autoencoders.sparsifiers import RankMean, Sparsifier
from vsae_lightning.errors import InputError


class Matryoshka(Sparsifier):
    """Every prefix of the dictionary reconstructs by itself (Bussmann et al. 2025, arXiv 2503.17547).

    The latents are those of the sparsifier within; the loss adds, for each size m but the whole,
    ||x - (sum_{j < m} f_j W_dec[j] + b_dec)||^2, so that early latents learn what is general. The
    sizes are cumulative, and the whole dictionary comes last of itself.

    Args:
        sparsifier: What selects the latents, of the whole dictionary at once.
        sizes: Increasing numbers of latents, each smaller than d_sae.

    Raises:
        InputError: `sizes` is empty, does not increase, or exceeds the dictionary, or one Matryoshka is
            put into another.
    """

    def __init__(self, sparsifier: Sparsifier, sizes: list[int]) -> None:
        super().__init__()
        if not sizes or sizes[0] < 1 or any(a >= b for a, b in pairwise(sizes)):
            raise InputError(f"Matryoshka: sizes is {sizes}; it must be increasing numbers of latents.")
        if isinstance(sparsifier, Matryoshka):
            raise InputError("Matryoshka: its sparsifier is a Matryoshka too; give one list of sizes.")
        self.sparsifier = sparsifier
        self.sizes = sizes
        self.samples = sparsifier.samples
        self.needs_penalty = sparsifier.needs_penalty
        self.has_gate = sparsifier.has_gate
        self.learns_threshold = sparsifier.learns_threshold

    def target_l0(self, draw: Draw | None) -> int | None:
        return self.sparsifier.target_l0(draw)

    def fit_to(self, d_sae: int) -> None:
        if self.sizes[-1] >= d_sae:
            raise InputError(f"Matryoshka: sizes ends with {self.sizes[-1]}; each must be smaller than d_sae, {d_sae}.")
        self.sparsifier.fit_to(d_sae)

    def forward(
        self, z: Float[Tensor, "batch d_sae"], score: Float[Tensor, "batch d_sae"], draw: Draw | None = None
    ) -> Latents:
        latents: Latents = self.sparsifier(z, score, draw)
        return latents

    def choice(self, draw: Draw | None) -> Choice | None:
        return self.sparsifier.choice(draw)

    def penalty(
        self, score: Float[Tensor, "batch d_sae"] | None, latents: Latents, norms: Float[Tensor, " d_sae"]
    ) -> Float[Tensor, " batch"]:
        return self.sparsifier.penalty(score, latents, norms)

    def side_error(
        self,
        x: Float[Tensor, "batch d_in"],
        score: Float[Tensor, "batch d_sae"] | None,
        latents: Latents,
        W_dec: Float[Tensor, "d_sae d_in"],
        b_dec: Float[Tensor, " d_in"],
    ) -> Float[Tensor, " batch"]:
        error: Any = sum(squared_error(x, latents.prefix(size).decode(W_dec[:size]) + b_dec) for size in self.sizes)
        inner = self.sparsifier.side_error(x, score, latents, W_dec, b_dec)
        return error if inner is None else error + inner

    def gate_threshold(self, score: Float[Tensor, "batch d_sae"] | None, latents: Latents, draw: Draw | None) -> Tensor:
        return self.sparsifier.gate_threshold(score, latents, draw)

    def observe(
        self, score: Float[Tensor, "batch d_sae"] | None, latents: Latents, draw: Draw, rank_mean: RankMean
    ) -> None:
        self.sparsifier.observe(score, latents, draw, rank_mean)

    def calibrate(self, scores: Iterable[Float[Tensor, "rows d_sae"]], rows: int) -> None:
        self.sparsifier.calibrate(scores, rows)

    def reset_(self, dead: Bool[Tensor, " d_sae"]) -> None:
        self.sparsifier.reset_(dead)

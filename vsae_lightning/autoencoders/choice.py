"""The selection of a given number of latents per row, from all scores or from the largest alone."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from vsae_lightning.autoencoders import kernels
from vsae_lightning.autoencoders.latents import SparseLatents
from vsae_lightning.autoencoders.sharding import WHOLE, Shards, kept


@dataclass(frozen=True)
class Choice:
    """The k latents of a row whose score (by magnitude: |score|) is largest; no other score is needed.

    By value, those among them whose score is positive are active, f_j = z_j [score_j > 0]; by magnitude all are.

    Attributes:
        k: How many, of all ranks.
        magnitude: Whether |score| decides.
        shards: Which latents this rank has.
    """

    k: int
    magnitude: bool = False
    shards: Shards = WHOLE

    def of_all(self, z: Float[Tensor, "batch d_sae"], score: Float[Tensor, "batch d_sae"]) -> SparseLatents:
        """The latents, from the values and scores of all that this rank has."""
        d_sae = z.shape[-1]
        indices = kernels.topk_indices(score.detach(), min(self.k, d_sae), self.magnitude)
        values = z.gather(-1, indices)
        return self.of_largest(values, values if score is z else score.gather(-1, indices), indices, d_sae)

    def of_largest(
        self,
        z: Float[Tensor, "batch offered"],
        score: Float[Tensor, "batch offered"],
        indices: Int[Tensor, "batch offered"],
        d_sae: int,
    ) -> SparseLatents:
        """The latents, from the min(k, d_sae) largest scores of each row that this rank has, of `d_sae`."""
        won = self.shards.won(score.abs() if self.magnitude else score, indices, self.k)
        values = kept(z, won)
        if not self.magnitude:
            values = values.relu() if score is z else values * (kept(score, won) > 0)
        return SparseLatents(values, indices, d_sae, self.shards, score.detach())

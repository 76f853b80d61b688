"""What a sparsifier returns: the latents of a batch, dense or as the k values of each row.

Of a sharded dictionary a rank has its own latents alone; what sums or counts is of all ranks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vsae_lightning.autoencoders import kernels
from vsae_lightning.autoencoders.posterior import Posterior
from vsae_lightning.autoencoders.sharding import WHOLE, Shards

PerLatent = Callable[[Posterior], Tensor]


@dataclass(frozen=True)
class DenseLatents:
    """Latents of which any number per row is active (not zero)."""

    values: Float[Tensor, "batch d_sae"]
    shards: Shards = WHOLE

    def dense(self) -> Float[Tensor, "batch d_sae"]:
        return self.shards.gather(self.values)

    def tensors(self) -> dict[str, Tensor]:
        """As a file has them: `latents`, [batch, d_sae]."""
        return {"latents": self.dense()}

    def decode(self, W_dec: Float[Tensor, "d_sae d_in"]) -> Float[Tensor, "batch d_in"]:
        """Sum over latents of value times decoder row; no bias."""
        return self.shards.sum(self.values @ W_dec)

    def prefix(self, size: int) -> "DenseLatents":
        """Those of the dictionary that consists of the first `size` latents alone."""
        return DenseLatents(self.values[:, :size])

    def active_per_row(self) -> Int[Tensor, " batch"]:
        return self.shards.sum(self._active().sum(-1))

    def firing_counts(self) -> Int[Tensor, " d_sae"]:
        """In how many rows each latent is active."""
        return self.shards.gather(self._active().sum(0))

    def l1(self, norms: Float[Tensor, " d_sae"]) -> Float[Tensor, " batch"]:
        """sum_j |f_j| norms_j."""
        return self.shards.sum((self.values.abs() * norms).sum(-1))

    def sum_active(self, quantity: PerLatent, posterior: Posterior) -> Float[Tensor, " batch"]:
        """The sum over the active latents of a quantity of their posteriors."""
        return self.shards.sum((quantity(posterior) * self._active()).sum(-1))

    def _active(self) -> Bool[Tensor, "batch d_sae"]:
        return self.values.abs() > 0  # not that of NaN: a step that is skipped has no latents that fired


@dataclass(frozen=True)
class SparseLatents:
    """The k selected latents of each row; all others are zero.

    Attributes:
        values: Theirs; 0 for one that is not active.
        indices: Which they are.
        d_sae: Latents in all, of this rank.
        shards: Which these are.
        scores: By which they were selected, without gradient; None where nobody asks.
    """

    values: Float[Tensor, "batch k"]
    indices: Int[Tensor, "batch k"]
    d_sae: int
    shards: Shards = WHOLE
    scores: Float[Tensor, "batch k"] | None = None

    def dense(self) -> Float[Tensor, "batch d_sae"]:
        zeros = self.values.new_zeros(len(self.values), self.d_sae)
        return self.shards.gather(zeros.scatter(-1, self.indices, self.values))

    def tensors(self) -> dict[str, Tensor]:
        """As a file has them: `values` and `indices`, [batch, k]."""
        return {"values": self.values, "indices": self.indices}

    def decode(self, W_dec: Float[Tensor, "d_sae d_in"]) -> Float[Tensor, "batch d_in"]:
        """Sum over the selected latents of value times decoder row; no bias."""
        return self.shards.sum(kernels.decode(self.values, self.indices, W_dec))

    def prefix(self, size: int) -> "SparseLatents":
        """Those of the dictionary that consists of the first `size` latents alone."""
        return SparseLatents(self.values * (self.indices < size), self.indices.clamp_max(size - 1), size)

    def active_per_row(self) -> Int[Tensor, " batch"]:
        return self.shards.sum(self._active().sum(-1))

    def firing_counts(self) -> Int[Tensor, " d_sae"]:
        """In how many rows each latent is active."""
        zeros = torch.zeros(self.d_sae, dtype=torch.long, device=self.values.device)
        return self.shards.gather(zeros.index_add(0, self.indices.flatten(), self._active().flatten().long()))

    def l1(self, norms: Float[Tensor, " d_sae"]) -> Float[Tensor, " batch"]:
        """sum_j |f_j| norms_j."""
        return self.shards.sum((self.values.abs() * norms[self.indices]).sum(-1))

    def sum_active(self, quantity: PerLatent, posterior: Posterior) -> Float[Tensor, " batch"]:
        """The sum over the active latents of a quantity of their posteriors; computed for these alone."""
        return self.shards.sum((quantity(posterior.at(self.indices)) * self._active()).sum(-1))

    def _active(self) -> Bool[Tensor, "batch k"]:
        return self.values.abs() > 0


Latents = DenseLatents | SparseLatents

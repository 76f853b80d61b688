"""Which latents fire in which rows."""

from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vsae_lightning.autoencoders.latents import Latents, SparseLatents


class ActiveSets(NamedTuple):
    """The latents that are active (not zero) in each row of a batch, as coordinates.

    Attributes:
        rows: In which row.
        latents: Which latent.
        shape: Rows and latents in all.
    """

    rows: Int[Tensor, " active"]
    latents: Int[Tensor, " active"]
    shape: tuple[int, int]

    @classmethod
    def of(cls, latents: Latents) -> "ActiveSets":
        rows, places = (latents.values.abs() > 0).nonzero(as_tuple=True)
        if isinstance(latents, SparseLatents):
            return cls(rows, latents.indices[rows, places], (len(latents.values), latents.d_sae))
        return cls(rows, places, (len(latents.values), latents.values.shape[1]))

    def sizes(self) -> Int[Tensor, " rows"]:
        """How many latents are active in each row."""
        return torch.bincount(self.rows, minlength=self.shape[0])

    def shared(self, other: "ActiveSets") -> Int[Tensor, " rows"]:
        """How many latents are active in the same row of both."""
        return torch.bincount(self.rows[self.is_in(other)], minlength=self.shape[0])

    def is_in(self, other: "ActiveSets") -> Bool[Tensor, " active"]:
        """Of each that is active, whether it is so in the same row of the other."""
        return torch.isin(self._places(), other._places(), assume_unique=True)

    def jaccard(self, other: "ActiveSets") -> Float[Tensor, " rows"]:
        """|A and B| / |A or B| of each row; 1 where both are empty."""
        shared = self.shared(other)
        either = self.sizes() + other.sizes() - shared
        return torch.where(either > 0, shared / either.clamp_min(1), 1.0)

    def matrix(self) -> scipy.sparse.csr_array:
        """[rows, d_sae], 1 where a latent is active."""
        ones = np.ones(len(self.rows), dtype=np.int32)
        places = (self.rows.int().cpu().numpy(), self.latents.int().cpu().numpy())
        return scipy.sparse.csr_array((ones, places), shape=self.shape)

    def _places(self) -> Int[Tensor, " active"]:
        return self.rows * self.shape[1] + self.latents

"""Sparsifiers: pre-activations (or a sample of the posterior) to latents."""

from abc import ABC, abstractmethod
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from vsae_lightning.autoencoders.latents import DenseLatents, Latents, SparseLatents
from vsae_lightning.autoencoders.parts import Part
from vsae_lightning.errors import InputError


class Sparsifier(Part, ABC):
    """Decides which latents of a row are active, and with what value."""

    @abstractmethod
    def forward(self, z: Float[Tensor, "batch d_sae"]) -> Latents:
        """Latents of `z`: pre-activations in an SAE, a sample or the posterior mean in a vSAE."""

    def check(self, d_sae: int) -> None:
        """Raise `InputError` if this sparsifier cannot serve a dictionary of `d_sae` latents."""


class ReLU(Sparsifier):
    """f = max(z, 0). How many latents are active is left to the L1 penalty (or to the KL)."""

    def forward(self, z: Float[Tensor, "batch d_sae"]) -> DenseLatents:
        return DenseLatents(nn.functional.relu(z))


class TopK(Sparsifier):
    """The k largest latents of each row (Gao et al. 2024, arXiv 2406.04093, section 2.3).

    `by="value"`: f = ReLU(TopK_k(z)). `by="magnitude"`: the k largest |z|, with their signs, as the
    runs of Baker & Li 2025 select.

    Args:
        k: Active latents per row.
        by: What the selection ranks.

    Raises:
        InputError: k is smaller than 1, or larger than the dictionary (on construction of the autoencoder).
    """

    def __init__(self, k: int, by: Literal["value", "magnitude"] = "value") -> None:
        super().__init__()
        if k < 1:
            raise InputError(f"TopK: k is {k}; it must be at least 1.")
        self.k = k
        self.by = by

    def check(self, d_sae: int) -> None:
        if self.k > d_sae:
            raise InputError(f"TopK: k is {self.k}, more than the {d_sae} latents of d_sae; choose k <= d_sae.")

    def forward(self, z: Float[Tensor, "batch d_sae"]) -> SparseLatents:
        if self.by == "value":
            values, indices = z.topk(self.k, dim=-1, sorted=False)
            return SparseLatents(nn.functional.relu(values), indices, z.shape[-1])
        indices = z.detach().abs().topk(self.k, dim=-1, sorted=False).indices
        return SparseLatents(z.gather(-1, indices), indices, z.shape[-1])

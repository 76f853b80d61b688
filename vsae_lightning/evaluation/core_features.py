"""Each latent on its own: how often it fires, and how its weights lie (SAEBench evals/core, feature metrics)."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.latents import Latents, SparseLatents
from vsae_lightning.metrics.directions import largest_cosines

UNDEFINED = -1.0  # where SAEBench divides 0 by 0


class FeatureCounts:
    """In how many tokens, and in how many sequences, each latent is positive."""

    def __init__(self, d_sae: int, device: torch.device) -> None:
        self.total = 0
        self.tokens, self.sequences = (torch.zeros(d_sae, dtype=torch.long, device=device) for _ in range(2))

    def update(self, latents: Latents, sequence: Int[Tensor, " rows"]) -> None:
        """Take in the latents of a batch, whose rows are of these of its sequences."""
        rows, which = _positive(latents)
        d_sae = len(self.tokens)
        self.total += len(sequence)
        self.tokens += which.bincount(minlength=d_sae)
        met = (sequence[rows] * d_sae + which).unique()
        self.sequences += (met % d_sae).bincount(minlength=d_sae)

    @property
    def density(self) -> Float[Tensor, " d_sae"]:
        """The fraction of tokens in which each latent is positive."""
        return self.tokens.double() / self.total

    @property
    def tokens_per_sequence(self) -> Float[Tensor, " d_sae"]:
        """In how many tokens of a sequence, of those with any; -1 of a latent that never fired."""
        return torch.where(self.sequences > 0, self.tokens.double() / self.sequences, UNDEFINED)


def feature_details(autoencoder: SparseAutoencoder, counts: FeatureCounts) -> list[dict[str, Any]]:
    """One dictionary per latent, as SAEBench has it."""
    W_enc, W_dec = autoencoder.W_enc, autoencoder.W_dec
    columns = {
        "feature_density": counts.density,
        "consistent_activation_heuristic": counts.tokens_per_sequence,
        "encoder_bias": autoencoder.b_enc,
        "encoder_norm": W_enc.norm(dim=0),
        "encoder_decoder_cosine_sim": F.cosine_similarity(W_enc.T, W_dec, dim=-1),
        "max_decoder_cosine_sim": largest_cosines(W_dec),
        "max_encoder_cosine_sim": largest_cosines(W_enc.T),
    }
    values = {name: column.tolist() for name, column in columns.items()}
    return [
        {"index": index, **{name: round(column[index], 10) for name, column in values.items()}}
        for index in range(autoencoder.d_sae)
    ]


def summary(details: list[dict[str, Any]]) -> dict[str, float | None]:
    """SAEBench's `misc_metrics`."""
    density, encoder, decoder = (
        torch.tensor([one[name] for one in details], dtype=torch.float64)
        for name in ("feature_density", "max_encoder_cosine_sim", "max_decoder_cosine_sim")
    )
    total = density.sum()
    values = {
        "freq_over_1_percent": (density > 0.01).double().mean(),
        "freq_over_10_percent": (density > 0.1).double().mean(),
        "normalized_freq_over_1_percent": density[density > 0.01].sum() / total if total > 0 else total,
        "normalized_freq_over_10_percent": density[density > 0.1].sum() / total if total > 0 else total,
        "average_max_encoder_cosine_sim": encoder.mean(),
        "average_max_decoder_cosine_sim": decoder.mean(),
        "frac_alive": (density > 0).double().mean(),
    }
    return {name: float(value) for name, value in values.items()}


def _positive(latents: Latents) -> tuple[Int[Tensor, " active"], Int[Tensor, " active"]]:
    """Rows and latents of all that is positive."""
    rows, places = (latents.values > 0).nonzero(as_tuple=True)
    return rows, latents.indices[rows, places] if isinstance(latents, SparseLatents) else places

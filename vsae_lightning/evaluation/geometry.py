"""Geometry of the dictionary: its directions, and which of them are used together."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vsae_lightning.errors import InputError, require_at_least
from vsae_lightning.evaluation.evaluation import Evaluation, Scores, Track
from vsae_lightning.evaluation.firing import ActiveSets
from vsae_lightning.evaluation.held_out import held_out_rows
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.metrics.coactivation import coactivation
from vsae_lightning.metrics.directions import dispersion, pairwise_cosines, ranks

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
TOGETHER = (
    "latents",
    "mean_jaccard",
    "chance_jaccard",
    "pairs_together",
    "mean_largest_jaccard",
    *(f"largest_jaccard_quantile_{quantile}" for quantile in QUANTILES),
    "largest_jaccard",
)


@dataclass(frozen=True)
class Geometry(Evaluation):
    """Directions of the decoder, of the latents that are alive on held-out tokens, and their firing together.

    - `decoder`: |cosine| of decoder rows: mean over pairs, mean over rows of the largest, largest; effective rank.
    - `dispersion`: 1 - cosine to the nearest row, against as many random directions; their ratio is above 1 where
      rows are more dispersed than by chance.
    - `coactivation`: the Jaccard index of the rows in which two latents fire.

    Distributions are in `eval_result_unstructured`, the pairs that fire together most in the details.

    Args:
        max_tokens: Held-out tokens that decide which latents are alive, and how they fire.
        min_firings: Latents that fire in fewer rows are left out of co-activation, which would be chance.
        random_draws: How many sets of random directions are averaged over.
        top_pairs: How many pairs of latents are listed.
    """

    type_id: ClassVar[str] = "geometry"
    reads_held_out: ClassVar[bool] = True

    max_tokens: int = 100_000
    min_firings: int = 10
    random_draws: int = 3
    top_pairs: int = 20

    @torch.no_grad()
    def scores(self, subject: Subject, track: Track) -> Scores:
        require_at_least(1, **{"geometry.random_draws": self.random_draws})
        autoencoder = subject.autoencoder
        batches = held_out_rows(subject, self.max_tokens, track)
        firing = scipy.sparse.vstack([ActiveSets.of(autoencoder.latents(x)).matrix() for x in batches], format="csr")
        counts = np.bincount(firing.indices, minlength=autoencoder.d_sae)
        alive = torch.from_numpy(counts > 0)
        if int(alive.sum()) < 2:
            raise InputError(f"{subject.name}: fewer than two of its latents fire in {firing.shape[0]} held-out rows.")
        rows = autoencoder.W_dec[alive.to(subject.device)].float()
        decoder, distributions = _decoder(rows)
        together, pairs = self._together(firing, np.flatnonzero(counts >= max(1, self.min_firings)))
        spread = dispersion(rows, self.random_draws)
        metrics: dict[str, dict[str, float | None]] = {
            "decoder": {"alive_fraction": float(alive.float().mean()), **decoder},
            "dispersion": {"nearest": spread.nearest, "random_nearest": spread.random, "dispersion": spread.ratio},
            "coactivation": together,
        }
        headline = {
            "mean largest |cosine|": decoder["mean_largest_abs_cosine"],
            "dispersion": spread.ratio,
            "effective rank": decoder["effective_rank"],
            "mean largest Jaccard": together["mean_largest_jaccard"],
        }
        unstructured = {"rows": firing.shape[0], "alive": len(rows), "d_in": autoencoder.d_in, **distributions}
        return Scores(metrics, pairs, unstructured, headline)

    def _together(
        self, firing: scipy.sparse.csr_array, latents: Int[np.ndarray, " some"]
    ) -> tuple[dict[str, float | None], list[dict[str, Any]]]:
        """Co-activation of these latents; None where there are no two."""
        if len(latents) < 2:
            return dict.fromkeys(TOGETHER), []
        found = coactivation(firing[:, latents], self.top_pairs)
        values = [
            len(latents),
            found.mean,
            found.chance,
            found.together,
            float(found.largest.mean()),
            *np.quantile(found.largest, QUANTILES).tolist(),
            float(found.largest.max()),
        ]
        pairs = [pair._asdict() | {"latents": latents[list(pair.latents)].tolist()} for pair in found.pairs]
        return dict(zip(TOGETHER, values, strict=True)), pairs


def _decoder(rows: Float[Tensor, "n d_in"]) -> tuple[dict[str, float], dict[str, list[Any]]]:
    """Metrics and distributions."""
    cosines, filled = pairwise_cosines(rows), ranks(rows)
    metrics = {
        "mean_abs_cosine": cosines.mean,
        "mean_largest_abs_cosine": float(cosines.largest.mean()),
        "largest_abs_cosine": float(cosines.largest.max()),
        "effective_rank": filled.effective,
        "participation_ratio": filled.participation,
    }
    bins = len(cosines.histogram)
    distributions = {
        "abs_cosine_edges": [edge / bins for edge in range(bins + 1)],
        "abs_cosine_pairs": cosines.histogram.tolist(),
        "largest_abs_cosine_latents": torch.histc(cosines.largest, bins, 0, 1).long().tolist(),
    }
    return metrics, distributions

"""Sparsifiers that select a given number of latents."""

from collections.abc import Iterable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vsae_lightning.autoencoders.choice import Choice
from vsae_lightning.autoencoders.draw import Draw
from vsae_lightning.autoencoders.latents import DenseLatents, Latents, SparseLatents
from vsae_lightning.autoencoders.sparsifiers import Sparsifier
from vsae_lightning.autoencoders.threshold import CountedThreshold, InferenceThreshold
from vsae_lightning.errors import InputError


class Selection(Sparsifier):
    """Keeps the k best of a row, on average; in training k may fall from `k_start` at first.

    k(t) = k_start + (k - k_start) min(1, t / k_anneal_steps), rounded. The `threshold` is the score that k latents
    per row exceed, on average over calibration rows; BatchTopK evaluates with it, and exports of TopK carry it.

    Args:
        k: Active latents per row.
        k_start: k at the first step; None: k throughout.
        k_anneal_steps: Optimizer steps over which it falls.

    Raises:
        InputError: k is smaller than 1, larger than the dictionary (on construction of the autoencoder), or
            `k_start` and `k_anneal_steps` do not go together.
    """

    learns_threshold = True
    threshold: InferenceThreshold

    def __init__(self, k: int, k_start: int | None = None, k_anneal_steps: int = 0) -> None:
        super().__init__()
        name = type(self).__name__
        if k < 1:
            raise InputError(f"{name}: k is {k}; it must be at least 1.")
        if k_start is not None and k_start < k:
            raise InputError(f"{name}: k_start is {k_start}; it must be at least k, {k}.")
        if (k_start is None) != (k_anneal_steps == 0) or k_anneal_steps < 0:
            raise InputError(
                f"{name}: k_start is {k_start} and k_anneal_steps {k_anneal_steps}; give both, or neither."
            )
        self.k = k
        self.k_start = k_start
        self.k_anneal_steps = k_anneal_steps
        self.threshold = InferenceThreshold()

    def target_l0(self, draw: Draw | None) -> int:
        return self.k_at(draw)

    def fit_to(self, d_sae: int) -> None:
        largest = max(self.k, self.k_start or 0)
        if largest > d_sae:
            raise InputError(
                f"{type(self).__name__}: k is {largest}, more than the {d_sae} latents of d_sae; choose k <= d_sae."
            )

    def calibrate(self, scores: Iterable[Float[Tensor, "rows d_sae"]], rows: int) -> None:
        self.threshold.calibrate(scores, rows, self.k)

    def k_at(self, draw: Draw | None) -> int:
        """k in training at the step of `draw`; the final k in evaluation."""
        if draw is None or self.k_start is None:
            return self.k
        return round(self.k_start + (self.k - self.k_start) * min(1.0, draw.step / self.k_anneal_steps))


class TopK(Selection):
    """The k largest latents of each row (Gao et al. 2024, arXiv 2406.04093, section 2.3).

    `by="value"`: those of the k largest scores that are positive; f = ReLU(TopK_k(z)) in an SAE.
    `by="magnitude"`: those of the k largest |score|, with their signs, as the runs of Baker & Li 2025 select.

    Args:
        k: Active latents per row.
        by: What the selection ranks.
        k_start: k at the first step of training; None: k throughout.
        k_anneal_steps: Optimizer steps over which k falls linearly from `k_start`.

    Raises:
        InputError: As for `Selection`.
    """

    can_shard = True

    def __init__(
        self,
        k: int,
        by: Literal["value", "magnitude"] = "value",
        k_start: int | None = None,
        k_anneal_steps: int = 0,
    ) -> None:
        super().__init__(k, k_start, k_anneal_steps)
        self.by = by
        self.has_gate = by == "value"

    def choice(self, draw: Draw | None) -> Choice:
        return Choice(self.k_at(draw), self.by == "magnitude", self.shards)

    def forward(
        self, z: Float[Tensor, "batch d_sae"], score: Float[Tensor, "batch d_sae"], draw: Draw | None = None
    ) -> SparseLatents:
        return self.choice(draw).of_all(z, score)

    def gate_threshold(self, score: Float[Tensor, "batch d_sae"] | None, latents: Latents, draw: Draw | None) -> Tensor:
        """The k-th largest score of every row, [batch, 1]."""
        assert isinstance(latents, SparseLatents)
        assert latents.scores is not None
        return kth_largest(self.shards.gather(latents.scores), self.k_at(draw))

    def calibrate(self, scores: Iterable[Float[Tensor, "rows d_sae"]], rows: int) -> None:
        super().calibrate((part.abs() for part in scores) if self.by == "magnitude" else scores, rows)


class ProbabilisticTopK(Selection):
    """TopK by sampled Binary-Concrete gates in training; plain TopK in evaluation.

    The gate of latent j has the logit z_j / temperature; its sample is sigmoid(z_j / temperature + l_j) with
    logistic noise l_j (Maddison et al. 2017, arXiv 1611.00712, appendix B; Jang et al. 2017). The k largest gates
    select, which is the order of z_j + temperature * l_j; the values are ReLU(z_j), so that the loss is the
    reconstruction alone. After Li et al. 2026 (PMLR 318, "Probabilistic TopK Sparse Autoencoder"): from its
    abstract; the full text was not at hand, so that details may differ.

    Args:
        k: Active latents per row.
        temperature: Scale of the noise, in units of the pre-activations; its standard deviation is
            1.81 * temperature.
        k_start: k at the first step of training; None: k throughout.
        k_anneal_steps: Optimizer steps over which k falls linearly from `k_start`.

    Raises:
        InputError: temperature is not positive, or as for `Selection`.
    """

    samples = True

    def __init__(self, k: int, temperature: float, k_start: int | None = None, k_anneal_steps: int = 0) -> None:
        super().__init__(k, k_start, k_anneal_steps)
        if not temperature > 0:
            raise InputError(f"ProbabilisticTopK: temperature is {temperature}; it must be positive; or use TopK.")
        self.temperature = temperature

    def forward(
        self, z: Float[Tensor, "batch d_sae"], score: Float[Tensor, "batch d_sae"], draw: Draw | None = None
    ) -> SparseLatents:
        if draw is None or draw.noise is None:
            return Choice(self.k_at(draw)).of_all(z, score)
        # The normal draw, by its distribution function: log(p / (1 - p)) of a uniform p is logistic.
        logistic = torch.special.log_ndtr(draw.noise) - torch.special.log_ndtr(-draw.noise)
        gates = score.detach() + self.temperature * logistic
        indices = gates.topk(self.k_at(draw), dim=-1, sorted=False).indices
        return SparseLatents(z.gather(-1, indices).relu(), indices, z.shape[-1])

    def gate_threshold(self, score: Float[Tensor, "batch d_sae"] | None, latents: Latents, draw: Draw | None) -> Tensor:
        assert score is not None
        return kth_largest(score, self.k_at(draw))


class BatchTopK(Selection):
    """The k * rows largest positive scores of a batch, k per row on average (Bussmann et al. 2024, arXiv 2412.06410).

    Rows of one lane compete with each other and with no others, so that the selection does not depend on the
    number of ranks. In evaluation a row stands alone: a latent is active when its score exceeds the threshold. The
    threshold is calibrated on the posterior means of the last training rows, so that k latents per row are active
    on average: before every validation, and before every checkpoint. (The authors take a running mean of the smallest
    score that training selected; with a sample in training and the mean in evaluation that is another L0.)

    Args:
        k: Active latents per row, on average.
        k_start: k at the first step of training; None: k throughout.
        k_anneal_steps: Optimizer steps over which k falls linearly from `k_start`.

    Raises:
        InputError: As for `Selection`.
    """

    def __init__(self, k: int, k_start: int | None = None, k_anneal_steps: int = 0) -> None:
        super().__init__(k, k_start, k_anneal_steps)
        self.threshold = CountedThreshold()

    def forward(
        self, z: Float[Tensor, "batch d_sae"], score: Float[Tensor, "batch d_sae"], draw: Draw | None = None
    ) -> DenseLatents:
        if draw is None:
            return DenseLatents(z * (score > self.threshold.value.clamp_min(0)))
        lanes = score.detach().reshape(draw.lanes, -1)
        best = lanes.topk(len(score) // draw.lanes * self.k_at(draw), dim=-1, sorted=False).indices
        selected = torch.zeros_like(lanes, dtype=torch.bool).scatter(-1, best, True).view_as(score)
        return DenseLatents(z * (selected & (score > 0)))

    def gate_threshold(self, score: Float[Tensor, "batch d_sae"] | None, latents: Latents, draw: Draw | None) -> Tensor:
        """In training the smallest selected score of each lane, [batch, 1]; else the learned threshold."""
        if draw is None:
            return self.threshold.value.clamp_min(0)
        assert score is not None
        smallest = self._smallest_selected(score, latents, draw)
        return torch.where(smallest.isfinite(), smallest, 0.0).repeat_interleave(len(score) // draw.lanes)[:, None]

    def _smallest_selected(
        self, score: Float[Tensor, "batch d_sae"], latents: Latents, draw: Draw
    ) -> Float[Tensor, " lanes"]:
        """Of each lane; infinite where nothing is selected."""
        assert isinstance(latents, DenseLatents)
        selected = torch.where(latents.values != 0, score.detach(), torch.inf)
        return selected.reshape(draw.lanes, -1).amin(-1)


def kth_largest(score: Float[Tensor, "batch d_sae"], k: int) -> Float[Tensor, "batch 1"]:
    """The smallest of the k largest scores of each row, without gradient."""
    return score.detach().topk(k, dim=-1, sorted=False).values.amin(-1, keepdim=True)

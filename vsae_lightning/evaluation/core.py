"""How well the reconstruction stands for the activation: alone, and within the language model."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vsae_lightning.autoencoders.variational import Select
from vsae_lightning.errors import InputError, require_at_least
from vsae_lightning.evaluation.core_features import UNDEFINED, FeatureCounts, feature_details, summary
from vsae_lightning.evaluation.evaluation import Evaluation, Scores, Track
from vsae_lightning.evaluation.held_out import ROWS, fitted_readings
from vsae_lightning.evaluation.splice import Positions, Splice
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.metrics import (
    L0,
    ExplainedVariances,
    FeatureDensity,
    MeanActivation,
    ReconstructionCosine,
    ReconstructionError,
    SAEBenchReconstruction,
    Shrinkage,
    density_histogram,
)
from vsae_lightning.readings import Readings

CONVENTIONS = {
    "training": "positions {drop}.. of every sequence{limit} are reconstructed, ablated and counted; others keep their "
    "activations and are not counted; special tokens are as any other",
    "saebench": "all positions are ablated; reconstructed too, but for special tokens where they are excluded; all are "
    "counted but special tokens (padding, end and beginning of text)",
}
BEHAVIOR = {"kl_score": "kl_div_score", "kl_zero_ablated": "kl_div_with_ablation", "kl_spliced": "kl_div_with_sae"}
PERFORMANCE = {
    "ce_loss_score": "ce_loss_score",
    "ce_loss_zero_ablated": "ce_loss_with_ablation",
    "ce_loss_spliced": "ce_loss_with_sae",
    "ce_loss_clean": "ce_loss_without_sae",
}

HEADLINE = (
    "explained_variance",
    "explained_variance_all_rows",
    "left_out_fraction",
    "explained_variance_recalibrated",
    "explained_variance_sampled",
    "mse",
    "relative_error",
    "cosine",
    "l2_ratio",
    "l0",
    "l0_off_target",
    "alive_fraction",
    "ce_loss_score",
    "ce_loss_score_mean_ablation",
    "kl_score",
)


@dataclass(frozen=True)
class Core(Evaluation):
    """Reconstruction, sparsity, and the language model's loss with reconstructions in place (SAEBench evals/core).

    Two conventions say which positions take part:

    - `training`: the positions that training kept. The first `drop_positions` of a sequence, and activations whose
      norm was too large for training (`data.max_norm_ratio`), keep their activations in ablation and splice, and count
      in nothing but `explained_variance_all_rows`; a special token counts as any other. What `vsae test` does.
    - `saebench`: what SAEBench does: the reconstruction takes the place of every activation, position 0 too, and
      padding, end-of-text and beginning-of-text tokens count in nothing. Where position 0 is an attention sink of huge
      norm, its reconstruction decides the scores of an autoencoder that never saw it.

    `explained_variance` is of the reconstruction at the posterior mean. `explained_variance_recalibrated` is of that
    reconstruction after one scale and one offset, fitted to training rows; `explained_variance_sampled` is of the mean
    of 16 samples (see `Readings`). `l0_off_target` is L0 / k - 1.

    In SAEBench's schema are the values of SAEBench's formulas, some of which are not what they are named after
    (`metrics.SAEBenchReconstruction`). What the names mean is in `eval_result_unstructured` under `by_definition`,
    and in the summary. Tokens are the first held-out ones, in order; both parts begin with the first.

    Args:
        batch_size_prompts: Sequences per batch; SAEBench's formulas depend on it.
        n_eval_reconstruction_batches: Batches for the language model's losses.
        n_eval_sparsity_variance_batches: Batches for reconstruction and sparsity.
        exclude_special_tokens_from_reconstruction: Special tokens keep their activations where others are
            reconstructed.
        convention: Which positions take part, "training" or "saebench".
        select: For `explained_variance_sampled`: whether latents are selected by the sample or by the mean, as in
            training; where the posterior is diagonal.
    """

    type_id: ClassVar[str] = "core"
    reads_held_out: ClassVar[bool] = True
    batch_size_prompts: int = 16
    n_eval_reconstruction_batches: int = 20
    n_eval_sparsity_variance_batches: int = 200
    exclude_special_tokens_from_reconstruction: bool = False
    convention: Literal["training", "saebench"] = "training"
    select: Select = "sample"

    def settings(self, subject: Subject) -> dict[str, Any]:
        computed = ("kl", "ce_loss", "l2_norms", "sparsity_metrics", "variance_metrics")
        of_features = ("featurewise_density_statistics", "featurewise_weight_based_metrics")
        return {
            **super().settings(subject),
            **{f"compute_{name}": True for name in (*computed, *of_features)},
            "dataset": f"held-out text: {(subject.provenance.text or {}).get('class_path', 'BundledText')}",
            "context_size": subject.provenance.context_length,
            "drop_positions": subject.provenance.drop_positions,
        }

    def scores(self, subject: Subject, track: Track) -> Scores:
        for name in ("batch_size_prompts", "n_eval_reconstruction_batches", "n_eval_sparsity_variance_batches"):
            require_at_least(1, **{f"core.{name}": getattr(self, name)})
        if not len(subject.tokens.held_out):
            raise InputError("core: no text is held out, so there is nothing to evaluate on.")
        readings = fitted_readings(subject, self.select, track)
        reconstruction = _Reconstruction(subject, self._max_norm(subject), readings)
        rows = self.sequences(subject, self.n_eval_sparsity_variance_batches)
        for tokens in track(self._batches(subject, rows), self._count(rows), "reconstruction, sparsity"):
            reconstruction.update(tokens, self.positions(subject, tokens))
        predicted = self.sequences(subject, self.n_eval_reconstruction_batches)
        losses = self._losses(subject, predicted, reconstruction.mean.compute(), track)
        details = feature_details(subject.autoencoder, reconstruction.features)
        by_definition = {**reconstruction.by_definition(), **losses}
        if (target := subject.autoencoder.sparsifier.target_l0(None)) is not None:
            by_definition["l0_off_target"] = by_definition["l0"] / target - 1
        limit = self._max_norm(subject)
        stated = CONVENTIONS[self.convention].format(
            drop=subject.provenance.drop_positions,
            limit="" if limit is None else f" with a norm of at most {limit:.4g}",
        )
        histogram = density_histogram(reconstruction.density.compute())
        return Scores(
            {
                "model_behavior_preservation": {theirs: losses[ours] for ours, theirs in BEHAVIOR.items()},
                "model_performance_preservation": {theirs: losses[ours] for ours, theirs in PERFORMANCE.items()},
                **reconstruction.as_saebench(),
                "token_stats": {
                    "total_tokens_eval_reconstruction": predicted.numel(),
                    "total_tokens_eval_sparsity_variance": rows.numel(),
                },
                "misc_metrics": summary(details),
            },
            details,
            {"positions": stated, "by_definition": by_definition, "log10_density": histogram._asdict()},
            {name: by_definition[name] for name in HEADLINE if name in by_definition},
        )

    def _max_norm(self, subject: Subject) -> float | None:
        """The largest norm that takes part; None: there is no limit."""
        return subject.provenance.max_norm if self.convention == "training" else None

    def sequences(self, subject: Subject, batches: int) -> Int[Tensor, "sequences position"]:
        """The first held-out sequences, as many as so many batches take, or all there are."""
        held_out = subject.tokens.held_out[: batches * self.batch_size_prompts]
        return torch.from_numpy(held_out.astype("int64"))

    def positions(self, subject: Subject, tokens: Int[Tensor, "sequences position"]) -> Positions:
        """Which positions take part, by the convention."""
        ordinary = ~torch.isin(tokens, special_tokens(subject).to(tokens.device))
        every = torch.ones_like(ordinary)
        if self.convention == "training":
            positions = Positions.trained(tokens, subject.provenance.drop_positions)
        else:
            positions = Positions(every, every, ordinary)
        if self.exclude_special_tokens_from_reconstruction:
            return positions._replace(reconstructed=positions.reconstructed & ordinary)
        return positions

    def _losses(
        self, subject: Subject, rows: Int[Tensor, "sequences position"], mean: Tensor, track: Track
    ) -> dict[str, float]:
        """What `metrics.recovered` says."""
        splice = Splice(subject.model, ("",), subject.device, self._max_norm(subject))
        at_once = subject.model.sequences_at_once(rows.shape[1])
        for batch in track(self._batches(subject, rows), self._count(rows), "the language model's loss"):
            for tokens in batch.split(at_once):
                splice.update(tokens, self.positions(subject, tokens), mean, {"": subject.autoencoder})
        return {name: float(value) for name, value in splice.compute()[""].items()}

    def _batches(self, subject: Subject, rows: Int[Tensor, "sequences position"]) -> Iterator[Tensor]:
        for batch in rows.split(self.batch_size_prompts):
            yield batch.to(subject.device)

    def _count(self, rows: Int[Tensor, "sequences position"]) -> int:
        return -(-len(rows) // self.batch_size_prompts)


def _parts(x: Tensor, sequence: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(x.split(ROWS), sequence.split(ROWS), strict=True)


def special_tokens(subject: Subject) -> Int[Tensor, " special"]:
    """Ids of the tokens for padding, end and beginning of text, those that there are."""
    tokenizer = subject.model.tokenizer
    ids = {tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id}
    return torch.tensor(sorted(i for i in ids if i is not None), dtype=torch.long)


def _number(value: float) -> float:
    """SAEBench writes -1 for nan, for which JSON has no word."""
    return UNDEFINED if math.isnan(value) else value


class _Reconstruction:
    """The autoencoder alone, on the activations of counted positions.

    Args:
        subject: What is evaluated.
        max_norm: Rows of a larger norm count in `explained_variance_all_rows` alone; None: there is no limit.
        readings: Further ways in which the autoencoder is read, fitted to training rows.
    """

    def __init__(self, subject: Subject, max_norm: float | None, readings: Readings) -> None:
        self.subject = subject
        self.max_norm = max_norm
        self.readings = readings
        autoencoder, device = subject.autoencoder, subject.device
        self.saebench = SAEBenchReconstruction().to(device)
        self.explained_variance = ExplainedVariances(autoencoder.d_in).to(device)
        self.cosine = ReconstructionCosine().to(device)
        self.error = ReconstructionError().to(device)
        self.shrinkage = Shrinkage().to(device)
        self.mean = MeanActivation(autoencoder.d_in).to(device)
        self.l0 = L0().to(device)
        self.sum_latents = torch.zeros((), dtype=torch.float64, device=device)
        self.density = FeatureDensity(autoencoder.d_sae).to(device)
        self.features = FeatureCounts(autoencoder.d_sae, device)

    def update(self, tokens: Int[Tensor, "sequences position"], positions: Positions) -> None:
        counted = positions.counted
        x = self.subject.model.activations(tokens)[counted].float()
        sequence = counted.nonzero()[:, 0]
        if self.max_norm is not None:
            kept = x.norm(dim=-1) <= self.max_norm
            left_out, x, sequence = x[~kept], x[kept], sequence[kept]
            if len(left_out):
                self.explained_variance.update(left_out, self.subject.autoencoder(left_out), left_out=True)
        if not len(x):
            return
        x_hat = torch.cat([self._reconstruct(*part) for part in _parts(x, sequence)])
        for metric in (self.saebench, self.explained_variance, self.cosine, self.error, self.shrinkage):
            metric.update(x, x_hat)
        self.readings.update(x, x_hat)
        self.mean.update(x)

    def _reconstruct(self, x: Float[Tensor, "rows d_in"], sequence: Int[Tensor, " rows"]) -> Tensor:
        """x_hat of rows that are few enough for all latents to be there at once; their latents are counted."""
        latents = self.subject.autoencoder.latents(x)
        self.l0.update(latents.active_per_row())
        self.sum_latents += latents.values.sum(dtype=torch.float64)
        self.density.update(latents.firing_counts(), len(x))
        self.features.update(latents, sequence)
        return self.subject.autoencoder.reconstruct(latents)

    def as_saebench(self) -> dict[str, dict[str, float | None]]:
        values = {name: float(value) for name, value in self.saebench.compute().items()}
        quality = ("explained_variance", "explained_variance_legacy", "mse", "cossim")
        shrinkage = ("l2_norm_in", "l2_norm_out", "l2_ratio", "relative_reconstruction_bias")
        return {
            "reconstruction_quality": {name: _number(values[name]) for name in quality},
            "shrinkage": {name: _number(values[name]) for name in shrinkage},
            "sparsity": {"l0": float(self.l0.compute()), "l1": float(self.sum_latents) / self.features.total},
        }

    def by_definition(self) -> dict[str, float]:
        alive = (self.density.compute() > 0).float().mean()
        values = {
            **self.explained_variance.compute(),
            **self.error.compute(),
            "cosine": self.cosine.compute(),
            **self.shrinkage.compute(),
            **self.readings.compute(),
            "l0": self.l0.compute(),
            "alive_fraction": alive,
        }
        return {name: float(value) for name, value in values.items()}

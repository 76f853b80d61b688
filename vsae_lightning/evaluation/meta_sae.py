"""Meta-SAE: how much of the decoder a smaller dictionary explains."""

import math
import time
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.draw import Draw
from vsae_lightning.autoencoders.topk import BatchTopK
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.evaluation import Evaluation, Scores, Track
from vsae_lightning.evaluation.subject import Subject

START_NORM = 0.1
# From so many steps on SAEBench's auxiliary loss could find dead latents, which this has not.
MOST_STEPS = 2000


@dataclass(frozen=True)
class MetaSAE(Evaluation):
    """The share of the decoder's variance that a BatchTopK autoencoder of its rows explains.

    SAEBench's evals/meta_structure, after Leask et al. 2025 (arXiv 2502.04878): rows that are sums of few others'
    directions are explained well, so less is better for atoms. Its draws are the same from the same seed, on the CPU.

    Args:
        random_seed: Of the initial weights and the batches.
        width_ratio: Latents of the meta-SAE, as a share of those of the autoencoder.
        k: Active ones per row, on average over a batch.
        train_steps: Adam steps.
        train_batch_size: Rows of a batch, drawn with replacement.
        learning_rate: Constant.
        autocast: Train in bfloat16 mixed precision, as SAEBench.
        eval_batch_size: Rows that compete for k places each when the variance is taken.
        unit_rows: Scale decoder rows to norm 1, as SAEBench does with what it downloads. Adam and the clipped
            gradient make the outcome depend on the norms, and those of a run's decoder are 1 / its input scale.
    """

    type_id: ClassVar[str] = "meta_structure_decoder_variance"

    random_seed: int = 42
    width_ratio: float = 0.25
    k: int = 4
    train_steps: int = 1500
    train_batch_size: int = 1024
    learning_rate: float = 5e-4
    autocast: bool = True
    eval_batch_size: int = 4096
    unit_rows: bool = True

    def scores(self, subject: Subject, track: Track) -> Scores:
        self._check()
        rows = subject.autoencoder.W_dec.detach().float()
        rows = nn.functional.normalize(rows, dim=-1) if self.unit_rows else rows
        start = time.monotonic()
        meta = self._trained(rows, track)
        seconds = time.monotonic() - start
        error, variance = self._errors(meta, rows)
        explained = 1 - error / variance if variance else 0.0
        metrics = {
            "decoder_fraction_variance_explained": explained,
            "train_time_seconds": seconds,
            "final_reconstruction_mse": error / rows.numel(),
        }
        headline: dict[str, float | None] = {"decoder_fraction_variance_explained": explained}
        return Scores({"meta_structure": {**metrics}}, [], {"meta_latents": meta.d_sae}, headline)

    def _check(self) -> None:
        for name in ("k", "train_batch_size", "eval_batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"meta.{name} is {getattr(self, name)}; it must be at least 1.")
        if not self.width_ratio > 0:
            raise InputError(f"meta.width_ratio is {self.width_ratio}; it must be positive.")
        if not 0 <= self.train_steps <= MOST_STEPS:
            raise InputError(f"meta.train_steps is {self.train_steps}; it must be between 0 and {MOST_STEPS}.")

    def _trained(self, rows: Float[Tensor, "rows d_in"], track: Track) -> SparseAutoencoder:
        draws = torch.Generator().manual_seed(self.random_seed)
        meta = self._start(rows.shape[1], max(math.ceil(len(rows) * self.width_ratio), self.k), draws).to(rows.device)
        optimizer = torch.optim.Adam(meta.parameters(), lr=self.learning_rate)
        for _ in track(range(self.train_steps), self.train_steps, "training"):
            x = rows[torch.randint(0, len(rows), (self.train_batch_size,), generator=draws).to(rows.device)]
            with torch.autocast(rows.device.type, torch.bfloat16, enabled=self.autocast):
                loss = nn.functional.mse_loss(reconstruction(meta, x), x, reduction="none").sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(meta.parameters(), 1.0)
            optimizer.step()
        return meta.requires_grad_(False)

    def _start(self, d_in: int, width: int, draws: torch.Generator) -> SparseAutoencoder:
        """Initial weights as SAELens draws them: Kaiming's, with rows of norm 0.1, and the encoder their transpose."""
        meta = SparseAutoencoder(d_in, width, BatchTopK(self.k), decoder="free", decoder_norm=START_NORM)
        directions = nn.init.kaiming_uniform_(torch.empty(width, d_in), generator=draws)
        meta.W_dec.data = START_NORM * nn.functional.normalize(directions, dim=-1)
        meta.W_enc.data = meta.W_dec.data.clone().T
        return meta

    def _errors(self, meta: SparseAutoencoder, rows: Float[Tensor, "rows d_in"]) -> tuple[float, float]:
        """Summed squares of what is left over, and of the rows about their mean."""
        parts = rows.split(self.eval_batch_size)
        error = sum((part - reconstruction(meta, part)).square().sum().double() for part in parts)
        variance = sum((part - rows.mean(0)).square().sum().double() for part in parts)
        return float(error), float(variance)


def reconstruction(meta: SparseAutoencoder, x: Float[Tensor, "rows d_in"]) -> Float[Tensor, "rows d_in"]:
    """That of a batch whose rows compete, in evaluation too, as if decoder rows had norm 1."""
    norms = meta.W_dec.norm(dim=-1)
    scores = (meta.encoder_input(x) @ meta.W_enc + meta.b_enc) * norms
    return meta.decode(meta.sparsifier(scores, scores, Draw()).dense() * (1 / norms))

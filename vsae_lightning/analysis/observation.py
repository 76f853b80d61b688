"""The one pass over the text: what an autoencoder does there."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.firings import Firings
from vsae_lightning.analysis.posterior import Posteriors, PosteriorTally
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.evaluation import Track
from vsae_lightning.evaluation.held_out import ROWS
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.metrics import ExplainedVariances

DENSE = 0.1  # a dense feature fires in more of the rows


@dataclass(frozen=True)
class Observation:
    """What one autoencoder did on an excerpt.

    Attributes:
        subject: The autoencoder, and what it was trained on.
        excerpt: What was read.
        firings: Where each latent fired.
        l0: In how many rows so many latents were active: 0, 1, 2, ...
        explained_variance: 1 - sum |x - x_hat|^2 / sum |x - mean|^2, of the rows that training keeps.
        posteriors: Of a vSAE that samples.
        norms: |x| of every row, in the order of the text, of rows that training leaves out too.
        own_text: Whether the excerpt is of the text that it was trained on, so that what is held out is so for it.
        explained_variance_all_rows: The same of all rows; None where training keeps them all.
    """

    subject: Subject
    excerpt: Excerpt
    firings: Firings
    l0: Int[np.ndarray, " counts"]
    explained_variance: float
    posteriors: Posteriors | None
    norms: Float[np.ndarray, " rows"]
    own_text: bool = True
    explained_variance_all_rows: float | None = None

    @property
    def kept(self) -> Bool[np.ndarray, " rows"]:
        """Which of the rows that were read training keeps: those whose norm is not too large. The others count in
        `explained_variance_all_rows` alone."""
        limit = self.subject.provenance.max_norm
        return np.ones(self.excerpt.rows, dtype=bool) if limit is None else self.norms <= np.float32(limit)

    @cached_property
    def rows(self) -> int:
        """How many of the rows that were read count."""
        return int(self.kept.sum())

    @property
    def density(self) -> Float[np.ndarray, " d_sae"]:
        """The share of rows in which each latent fires."""
        return self.firings.counts / self.rows

    @property
    def dense(self) -> int:
        """How many features are dense: fire in over 10 % of the rows."""
        return int((self.density > DENSE).sum())

    @property
    def mean_l0(self) -> float:
        """Active latents per row."""
        return float(self.firings.counts.sum() / self.rows)


@torch.no_grad()
def observe(subjects: list[Subject], excerpt: Excerpt, track: Track) -> list[Observation]:
    """Read an excerpt once, and show its activations to every autoencoder.

    Args:
        subjects: Autoencoders of one hook of one language model, the first one's.
        excerpt: What to read.
        track: Shows how far it is.

    Raises:
        InputError: They are for different activations.
    """
    first = subjects[0]
    for subject in subjects[1:]:
        _require_same_activations(first, subject)
    tallies = [_Tally(subject) for subject in subjects]
    sequences = first.provenance.lm_batch_sequences
    total = -(-len(excerpt.tokens) // sequences)
    for tokens, positions in track(excerpt.batches(sequences), total, "text"):
        rows = first.activations(tokens.to(first.device))
        for start in range(0, len(rows), ROWS):
            for tally in tallies:
                tally.update(rows[start : start + ROWS], positions[start : start + ROWS])
    return [tally.observation(excerpt, _text(tally.subject) == _text(first)) for tally in tallies]


class _Tally:
    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.firings = Firings(subject.autoencoder.d_sae)
        self.l0 = np.zeros(1, dtype=np.int64)
        self.explained = ExplainedVariances(subject.autoencoder.d_in).to(subject.device)
        self.posteriors = PosteriorTally.of(subject.autoencoder)
        self.norms: list[torch.Tensor] = []

    def update(self, x: torch.Tensor, positions: np.ndarray) -> None:
        self.norms.append(x.norm(dim=-1).cpu())
        kept = self.subject.kept(x)
        if not kept.all():
            left_out = x[~kept]
            self.explained.update(left_out, self.subject.autoencoder(left_out), left_out=True)
            x, positions = x[kept], positions[kept.cpu().numpy()]
        latents = self.subject.autoencoder.latents(x)
        self.explained.update(x, self.subject.autoencoder.reconstruct(latents))
        sigma = None if self.posteriors is None else self.posteriors.update(x, latents)
        self.firings.add(positions, latents, sigma)
        counted = np.bincount(latents.active_per_row().cpu().numpy(), minlength=len(self.l0))
        counted[: len(self.l0)] += self.l0
        self.l0 = counted

    def observation(self, excerpt: Excerpt, own_text: bool) -> Observation:
        posteriors = None if self.posteriors is None else self.posteriors.compute()
        explained = {name: float(value) for name, value in self.explained.compute().items()}
        return Observation(
            self.subject,
            excerpt,
            self.firings,
            self.l0,
            explained["explained_variance"],
            posteriors,
            torch.cat(self.norms).numpy(),
            own_text,
            explained.get("explained_variance_all_rows"),
        )


def _text(subject: Subject) -> dict[str, Any]:
    """What decides which sequences it was trained on."""
    options = subject.provenance.options()
    return {name: options[name] for name in ("text", "context_length", "prepend_bos", "max_tokens")}


def _require_same_activations(one: Subject, other: Subject) -> None:
    for name in ("model_name", "hook_name"):
        mine, its = getattr(one.provenance, name), getattr(other.provenance, name)
        if mine != its:
            raise InputError(f"against: {other.name} is for {name} {its!r}, {one.name} for {mine!r}.")
    mine, its = one.autoencoder.d_in, other.autoencoder.d_in
    if mine != its:
        raise InputError(f"against: {other.name} has d_in {its}, {one.name} {mine}.")

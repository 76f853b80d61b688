"""Robustness: to noise on the input, to sampling from the posterior, to the seed of the training."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.autoencoders.variational import Select, VariationalAutoencoder
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.evaluation import Evaluation, Scores, Track
from vsae_lightning.evaluation.firing import ActiveSets
from vsae_lightning.evaluation.held_out import held_out_rows
from vsae_lightning.evaluation.noise import input_noise, sampled_latents
from vsae_lightning.evaluation.stability import Stability, alive_latents, load_other, stability
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.metrics import ExplainedVariance, RowMeans

Disturbance = Callable[[Tensor, int], Latents]
"""From rows, and the number of the first of them, to latents."""


@dataclass(frozen=True)
class Robustness(Evaluation):
    """What noise changes, with the same noise for every autoencoder of the same input.

    - `clean`: explained variance without noise.
    - `noise_SHARE`: with noise in a random direction on every activation, of this share of its norm: explained
      variance of the clean activation; Jaccard index of the active sets with those without noise, mean over rows;
      ||x_hat' - x_hat|| / ||x||, mean over rows; the share of firings that are there with noise or without it alone.
    - `posterior`: the same for latents sampled from a vSAE's posterior in place of its mean.
    - `stability`: cosines with the decoders of other runs, mean over these.

    Args:
        max_tokens: Held-out tokens to read.
        noise: Shares of the norm.
        select: Whether latents are selected by the sample or by the mean, where the posterior is diagonal.
        seed: Of the noise.
        against: Other runs, each a path, or `PATH:MEMBER` of an ensemble.
        alive_only: Compare with these the latents alone that fire on the held-out tokens.
    """

    type_id: ClassVar[str] = "robustness"
    reads_held_out: ClassVar[bool] = True

    max_tokens: int = 50_000
    noise: list[float] = field(default_factory=lambda: [0.05, 0.1, 0.3])
    select: Select = "sample"
    seed: int = 0
    against: list[str] = field(default_factory=list)
    alive_only: bool = True

    def scores(self, subject: Subject, track: Track) -> Scores:
        for share in self.noise:
            if not 0 <= share < math.inf:
                raise InputError(f"noise is {share}; it must be a share of the norm, such as 0.1.")
        others = [self._other(named, subject) for named in self.against]
        batches = held_out_rows(subject, self.max_tokens, track)
        disturbances = self.disturbances(subject.autoencoder)
        metrics: dict[str, dict[str, float | None]] = {**disturbed(subject.autoencoder, batches, disturbances)}
        details: list[dict[str, Any]] = []
        if others:
            found = self._stability(subject, others, track)
            details = [{"against": name} | one._asdict() for name, one in zip(self.against, found, strict=True)]
            metrics["stability"] = {name: _mean([one[name] for one in details]) for name in Stability._fields}
        return Scores(metrics, details, {}, self._headline(metrics))

    def disturbances(self, autoencoder: SparseAutoencoder) -> dict[str, Disturbance]:
        """By the name that their metrics have."""
        found: dict[str, Disturbance] = {
            f"noise_{share:g}": partial(_with_noise, autoencoder, share, self.seed) for share in self.noise
        }
        if isinstance(autoencoder, VariationalAutoencoder) and autoencoder.samples:
            found["posterior"] = partial(sampled_latents, autoencoder, self.select, self.seed)
        return found

    def _other(self, named: str, subject: Subject) -> SparseAutoencoder:
        other = load_other(named, subject.device, subject.provenance.trust)
        if other.d_in != subject.autoencoder.d_in:
            raise InputError(f"against: {named} has d_in {other.d_in}, {subject.name} {subject.autoencoder.d_in}.")
        return other

    def _stability(self, subject: Subject, others: list[SparseAutoencoder], track: Track) -> list[Stability]:
        compared = [subject.autoencoder, *others]
        decoders = [one.W_dec.float() for one in compared]
        if self.alive_only:
            alive = alive_latents(compared, held_out_rows(subject, self.max_tokens, track))
            decoders = [rows[fired] for rows, fired in zip(decoders, alive, strict=True)]
        return [stability(decoders[0], other) for other in decoders[1:]]

    def _headline(self, metrics: dict[str, dict[str, float | None]]) -> dict[str, float | None]:
        shown = {"explained variance": metrics["clean"]["explained_variance"]}
        strongest = [f"noise_{share:g}" for share in sorted(self.noise)[-1:]]
        for name in (*strongest, *(["posterior"] if "posterior" in metrics else [])):
            shown[f"explained variance, {name}"] = metrics[name]["explained_variance"]
            shown[f"Jaccard, {name}"] = metrics[name]["jaccard"]
        if "stability" in metrics:
            shown["MMCS"] = metrics["stability"]["mmcs"]
        return shown


class _Pass(NamedTuple):
    active: ActiveSets
    x_hat: Tensor


class _Change:
    """How a disturbed pass differs from the clean one, over all batches."""

    def __init__(self, autoencoder: SparseAutoencoder) -> None:
        device = autoencoder.W_dec.device
        self.explained = ExplainedVariance(autoencoder.d_in).to(device)
        self.rows = RowMeans(("jaccard", "relative_change", "changed", "fired")).to(device)

    def update(self, x: Float[Tensor, "rows d_in"], clean: _Pass, other: _Pass) -> None:
        self.explained.update(x, other.x_hat)
        tiny = torch.finfo(x.dtype).tiny
        fired = clean.active.sizes() + other.active.sizes()
        of_rows = {
            "jaccard": clean.active.jaccard(other.active),
            "relative_change": (other.x_hat - clean.x_hat).norm(dim=-1) / x.norm(dim=-1).clamp_min(tiny),
            "changed": fired - 2 * clean.active.shared(other.active),
            "fired": fired,
        }
        self.rows.update({name: values.double().mean() for name, values in of_rows.items()}, len(x))

    def compute(self) -> dict[str, float | None]:
        means = {name: float(value) for name, value in self.rows.compute().items()}
        changed, fired = means.pop("changed"), means.pop("fired")
        values = {"explained_variance": float(self.explained.compute()), **means}
        return {**values, "activity_changes": changed / fired if fired else None}


@torch.no_grad()
def disturbed(
    autoencoder: SparseAutoencoder,
    batches: Iterable[Float[Tensor, "_ d_in"]],
    disturbances: dict[str, Disturbance],
) -> dict[str, dict[str, float | None]]:
    """The metrics of each disturbance, and those of none as `clean`; batches follow each other in order."""
    explained = ExplainedVariance(autoencoder.d_in).to(autoencoder.W_dec.device)
    changes = {name: _Change(autoencoder) for name in disturbances}
    first_row = 0
    for x in batches:
        clean = _decoded(autoencoder, autoencoder.latents(x))
        explained.update(x, clean.x_hat)
        for name, disturbance in disturbances.items():
            changes[name].update(x, clean, _decoded(autoencoder, disturbance(x, first_row)))
        first_row += len(x)
    found: dict[str, dict[str, float | None]] = {"clean": {"explained_variance": float(explained.compute())}}
    return found | {name: change.compute() for name, change in changes.items()}


def _decoded(autoencoder: SparseAutoencoder, latents: Latents) -> _Pass:
    return _Pass(ActiveSets.of(latents), autoencoder.reconstruct(latents))


def _with_noise(autoencoder: SparseAutoencoder, share: float, seed: int, x: Tensor, first_row: int) -> Latents:
    return autoencoder.latents(x + input_noise(x, share, seed, first_row))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

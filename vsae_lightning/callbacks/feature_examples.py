"""What a few latents fire on, as it changes while they are trained."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from vsae_lightning.analysis.contexts import Context, Contexts, contexts
from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.firings import Firings
from vsae_lightning.autoencoders.latents import DenseLatents
from vsae_lightning.callbacks.interval import is_due
from vsae_lightning.callbacks.literal_markdown import literal
from vsae_lightning.callbacks.run_folder import tensorboard
from vsae_lightning.errors import InputError, require_at_least
from vsae_lightning.evaluation.held_out import ROWS
from vsae_lightning.log_keys import log_key

if TYPE_CHECKING:
    from vsae_lightning.data.datamodule import ActivationDataModule
    from vsae_lightning.modules.members import Member, MembersModule


class FeatureExamples(Callback):
    """Shows the strongest contexts of a few latents in held-out text, as text in TensorBoard: `train/feature_12`.

    Of several members each is under its name. The posterior mean of a vSAE counts, as in evaluation. Every rank that
    has latents reads all of the text. Where the data module has no language model, nothing is done.

    Args:
        every_n_steps: Optimizer steps between two looks; None: there are none.
        features: Which latents; or how many, drawn at random once for all.
        max_tokens: Held-out tokens that are read, from the first; at least one sequence.
        strongest: How many contexts of each.

    Raises:
        InputError: A number that is too small, or a latent that a member has not.
    """

    def __init__(
        self,
        every_n_steps: int | None = None,
        features: list[int] | int = 8,
        max_tokens: int = 20_000,
        strongest: int = 5,
    ) -> None:
        smallest = min(features, default=0) if isinstance(features, list) else features
        least = {"every_n_steps": 1 if every_n_steps is None else every_n_steps, "max_tokens": max_tokens}
        require_at_least(1, **{f"feature_examples.{name}": value for name, value in least.items()})
        require_at_least(1, **{"feature_examples.strongest": strongest})
        require_at_least(0, **{"feature_examples.features": smallest})
        self.every_n_steps = every_n_steps
        self.features = features
        self.max_tokens = max_tokens
        self.wanted = Contexts(strongest=strongest, per_interval=0)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for name, member in cast("MembersModule", pl_module).members().items():
            d_sae, largest = member.autoencoder.d_sae, max(self._features(member), default=0)
            if largest >= d_sae:
                whose = f"member {name}" if name else "the autoencoder"
                raise InputError(f"feature_examples.features has {largest}; {whose} has {d_sae}, counted from 0.")

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        members = cast("MembersModule", pl_module).members()
        has_text = hasattr(getattr(trainer, "datamodule", None), "held_out_tokens")
        if not is_due(trainer, batch_idx, self.every_n_steps) or not has_text:
            return
        for member in members.values():
            member.calibrate()  # all ranks together
        if not trainer.is_global_zero and not any(member.is_sharded for member in members.values()):
            return
        text = _HeldOutText.of(cast("ActivationDataModule", cast("Any", trainer).datamodule), self.max_tokens)
        watched = [_Watched(name, member, self._features(member)) for name, member in members.items()]
        for activations, positions in text.batches(pl_module.device):
            with trainer.precision_plugin.forward_context():
                for one in watched:
                    one.update(activations, positions)
        if (logger := tensorboard(trainer)) is not None:
            for one in watched:
                for tag, markdown in one.texts(text, self.wanted).items():
                    logger.experiment.add_text(tag, markdown, trainer.global_step - 1)

    def _features(self, member: "Member") -> list[int]:
        if isinstance(self.features, list):
            return self.features
        d_sae = member.autoencoder.d_sae
        chosen = np.random.default_rng(0).choice(d_sae, min(self.features, d_sae), replace=False)
        return sorted(chosen.tolist())


class _HeldOutText:
    """The first held-out sequences, the same on every rank."""

    def __init__(self, data: "ActivationDataModule", sequences: np.ndarray) -> None:
        self.data = data
        self.excerpt = Excerpt(sequences.astype(np.int32), len(sequences), data.layout.drop_positions)

    @classmethod
    def of(cls, data: "ActivationDataModule", max_tokens: int) -> "_HeldOutText":
        assert data.tokens is not None
        return cls(data, data.tokens.held_out[: max(1, max_tokens // data.context_length)])

    def batches(self, device: torch.device) -> Iterator[tuple[Float[Tensor, "rows d_in"], Int[np.ndarray, " rows"]]]:
        """Activations, and their positions in the text."""
        for tokens, positions in self.excerpt.batches(self.data.layout.lm_batch_sequences):
            activations = self.data.model.activations(tokens.to(device))[:, self.excerpt.first_offset :].flatten(0, 1)
            if self.data.max_norm is not None:
                kept = activations.float().norm(dim=-1) <= self.data.max_norm
                activations, positions = activations[kept], positions[kept.cpu().numpy()]
            for first in range(0, len(activations), ROWS):
                yield activations[first : first + ROWS], positions[first : first + ROWS]

    def words(self, start: int, end: int) -> str:
        """The text between two positions, so that Markdown shows it as it is."""
        decoded = self.data.model.tokenizer.decode(self.excerpt.tokens.ravel()[start:end].tolist())
        return literal(str(decoded))


class _Watched:
    """A few latents of one member, and where they fire."""

    def __init__(self, name: str, member: "Member", features: list[int]) -> None:
        self.name = name
        self.member = member
        self.features = features
        self.firings = Firings(len(features))

    def update(self, activations: Float[Tensor, "rows d_in"], positions: Int[np.ndarray, " rows"]) -> None:
        latents = self.member.autoencoder.latents(self.member.standardize(activations))
        self.firings.add(positions, DenseLatents(latents.dense()[:, self.features]))

    def texts(self, text: _HeldOutText, wanted: Contexts) -> dict[str, str]:
        """Tag to Markdown: a table of contexts, the token where the latent fires in brackets and bold."""
        found = {}
        for place, feature in enumerate(self.features):
            events, count = self.firings.of(place), int(self.firings.counts[place])
            chosen = contexts(events, text.excerpt, wanted, feature)[: wanted.strongest]
            rows = [f"| {_strength(context):.4g} | {_shown(context, text)} |" for context in chosen]
            title = f"fires in {count:,} of {text.excerpt.rows:,} held-out rows"
            table = ["| value | context |", "| --- | --- |", *rows] if rows else []
            found[log_key("train", self.name, f"feature_{feature}")] = "\n".join([title, "", *table])
        return found


def _strength(context: Context) -> float:
    return float(context.values[np.searchsorted(context.offsets, context.peak - context.start)])


def _shown(context: Context, text: _HeldOutText) -> str:
    before, after = text.words(context.start, context.peak), text.words(context.peak + 1, context.end)
    return f"{before}**⟦{text.words(context.peak, context.peak + 1)}⟧**{after}"

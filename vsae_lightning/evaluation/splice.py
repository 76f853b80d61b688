"""The language model with its activations at the hook replaced: by zeros, by their mean, by reconstructions."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vsae_lightning.data.language_model import Edit
from vsae_lightning.metrics import LanguageModelLosses, cross_entropies, kl_divergences, recovered

Reconstruct = Callable[[Tensor], Tensor]


@runtime_checkable
class Model(Protocol):
    """What a splice needs of a language model."""

    def logits(self, tokens: Int[Tensor, "sequences position"], edit: Edit | None = None) -> Tensor: ...


class Positions(NamedTuple):
    """Which positions of sequences take part in a splice.

    Attributes:
        reconstructed: Those whose activation the reconstruction takes the place of.
        ablated: Those whose activation is replaced in ablation.
        counted: Those whose prediction counts.
    """

    reconstructed: Bool[Tensor, "sequences position"]
    ablated: Bool[Tensor, "sequences position"]
    counted: Bool[Tensor, "sequences position"]

    @classmethod
    def trained(cls, tokens: Int[Tensor, "sequences position"], drop_positions: int) -> "Positions":
        """As in training: the first positions keep their activations, and nothing is said of them."""
        kept = (torch.arange(tokens.shape[1], device=tokens.device) >= drop_positions).expand_as(tokens)
        return cls(kept, kept, kept)

    def where(self, kept: Bool[Tensor, "sequences position"]) -> "Positions":
        """Keep rows within the norm limit: others keep their activations, and their predictions do not count."""
        return Positions(self.reconstructed & kept, self.ablated & kept, self.counted & kept)


class Splice:
    """Losses of the language model, clean, ablated and with reconstructions spliced in, over batches and ranks.

    Softmax, cross-entropy and KL are computed in float32 whatever the model's dtype.

    Args:
        model: The language model, loaded on `device`.
        names: Of the autoencoders; the clean and the ablated passes are theirs together.
        device: Where the model is.
        max_norm: Activations of a larger norm stay as they are, and their predictions do not count; None: no limit.
    """

    def __init__(self, model: Model, names: Iterable[str], device: torch.device, max_norm: float | None = None) -> None:
        self.model = model
        self.max_norm = max_norm
        self.clean, self.zero, self.mean = (LanguageModelLosses().to(device) for _ in range(3))
        self.spliced = {name: LanguageModelLosses().to(device) for name in names}

    def update(
        self,
        tokens: Int[Tensor, "sequences position"],
        positions: Positions,
        mean: Float[Tensor, " d_in"],
        reconstructions: Mapping[str, Reconstruct],
    ) -> None:
        """Take in one batch.

        Args:
            tokens: Whole sequences.
            positions: Which of their positions take part.
            mean: What mean ablation puts in.
            reconstructions: By the name of the autoencoder, raw activations [rows, d_in] to x_hat.
        """
        positions, logits = self._clean(tokens, positions)
        clean = logits.float().log_softmax(-1)
        ablated = positions.ablated

        def count(losses: LanguageModelLosses, log_probs: Tensor) -> None:
            cross_entropy = cross_entropies(log_probs, tokens)[positions.counted[:, :-1]]
            losses.update(cross_entropy, kl_divergences(clean, log_probs)[positions.counted])

        def pass_with(edit: Edit) -> Tensor:
            return self.model.logits(tokens, edit).float().log_softmax(-1)

        count(self.clean, clean)
        count(self.zero, pass_with(_replaced(ablated, torch.zeros_like)))
        count(self.mean, pass_with(_replaced(ablated, mean.expand_as)))
        for name, reconstruct in reconstructions.items():
            count(self.spliced[name], pass_with(_replaced(positions.reconstructed, reconstruct)))

    def _clean(
        self, tokens: Int[Tensor, "sequences position"], positions: Positions
    ) -> tuple[Positions, Float[Tensor, "sequences position vocabulary"]]:
        """The clean logits, and the positions whose activation is not too large."""
        if self.max_norm is None:
            return positions, self.model.logits(tokens)
        seen = []

        def look(activations: Float[Tensor, "sequences position d_in"]) -> Tensor:
            seen.append(activations.float().norm(dim=-1) <= self.max_norm)
            return activations

        logits = self.model.logits(tokens, look)
        return positions.where(seen[0]), logits

    def compute(self) -> dict[str, dict[str, Float[Tensor, ""]]]:
        """By autoencoder, what `metrics.recovered` says; over all ranks, which ask together."""
        clean, zero, mean = self.clean.compute(), self.zero.compute(), self.mean.compute()
        return {name: recovered(clean, zero, mean, losses.compute()) for name, losses in self.spliced.items()}


def _replaced(where: Bool[Tensor, "sequences position"], replace: Reconstruct) -> Edit:
    """Activations with those at the positions `where` replaced; the autoencoder sees float32."""

    def edit(activations: Float[Tensor, "sequences position d_in"]) -> Float[Tensor, "sequences position d_in"]:
        edited = activations.clone()
        edited[where] = replace(activations[where].float()).to(activations.dtype)
        return edited

    return edit

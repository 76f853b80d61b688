"""What is evaluated: an autoencoder, and the language model and text that it was trained on."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.data.language_model import LanguageModel
from vsae_lightning.data.tokens import TokenStore
from vsae_lightning.errors import require_at_least
from vsae_lightning.provenance import Provenance
from vsae_lightning.trusted_text import reads_local_files, require_files_of_training, store_of_training


@dataclass
class Subject:
    """An autoencoder in the units of raw activations, frozen, on `device`, and what it was trained on.

    Attributes:
        name: In file names and tables.
        folder: Of the run or of the export; results go below it.
        training: The whole configuration of the run, plain values; empty where it is not known.
        trust_text: Whether local files are read that are not those of the run's training.
    """

    name: str
    folder: Path
    autoencoder: SparseAutoencoder
    provenance: Provenance
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    training: dict[str, Any] = field(default_factory=dict)
    trust_text: bool = False

    @cached_property
    def model(self) -> LanguageModel:
        """The language model, with its weights, on `device`; loaded when first asked for."""
        model = self.provenance.language_model()
        model.require_weights()
        model.load(self.device)
        return model

    @cached_property
    def tokens(self) -> TokenStore:
        """The sequences it was trained on, and those held out; a text that has changed since is warned of.

        Raises:
            InputError: A run names local files that are not those of its training.
        """
        provenance, model = self.provenance, self.provenance.language_model()
        of_training = store_of_training(self.folder)
        trained = of_training.get("key")
        if (self.folder / "config.yaml").is_file() and not self.trust_text and reads_local_files(provenance.text):
            require_files_of_training(self.name, provenance.store_key(model), trained)
        store = provenance.tokens(model)
        # A checksum beside a store is its author's; a text of the hub can change under its name, and so under its key.
        if trained and (trained != store.key or of_training.get("sha256") not in (None, store.digests)):
            warnings.warn(
                f"the text of {self.folder} is not that of its training any more: documents that count as held out "
                "may have been trained on.",
                stacklevel=2,
            )
        return store

    def held_out(self, max_tokens: int | None = None) -> Iterator[Int[Tensor, "sequences position"]]:
        """Held-out sequences in order, whole, in batches for the language model; no more than `max_tokens`.

        Raises:
            InputError: max_tokens is negative.
        """
        if max_tokens is not None:
            require_at_least(0, max_tokens=max_tokens)
        rows = self.tokens.held_out[: None if max_tokens is None else max_tokens // self.provenance.context_length]
        step = self.provenance.lm_batch_sequences
        for first in range(0, len(rows), step):
            yield torch.from_numpy(rows[first : first + step].astype("int64")).to(self.device)

    def kept(self, rows: Float[Tensor, "rows d_in"]) -> Bool[Tensor, " rows"]:
        """Which activations training kept: all whose norm is not above its limit."""
        limit = self.provenance.max_norm
        return torch.ones_like(rows[:, 0], dtype=torch.bool) if limit is None else rows.norm(dim=-1) <= limit

    def activations(self, tokens: Int[Tensor, "sequences position"]) -> Float[Tensor, "rows d_in"]:
        """Activations at the hook in float32, without the first positions, which training leaves out too."""
        return self.model.activations(tokens)[:, self.provenance.drop_positions :].flatten(0, 1).float()

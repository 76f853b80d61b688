"""When each feature fired in training, as the checkpoint of its run keeps it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vsae_lightning.analysis.columns import Column
from vsae_lightning.autoencoders.storage import describe_checkpoint, find_checkpoint
from vsae_lightning.errors import InputError
from vsae_lightning.loading import is_export

NOT_YET = -1  # of `FeatureUsage`


class TrainingUsage(NamedTuple):
    """In tokens of training, of which those of a batch count as its last.

    Attributes:
        tokens: Seen in all.
        first: When a feature fired for the first time; NaN: never, or not known (of an older checkpoint).
        last: When it last fired; NaN: never, since the training began or since the feature was restarted.
    """

    tokens: int
    first: Float[np.ndarray, " d_sae"]
    last: Float[np.ndarray, " d_sae"]

    @classmethod
    def of(cls, path: Path, member: str | None = None) -> "TrainingUsage | None":
        """Of a run folder or a checkpoint; None of an export, which does not say. Executes nothing of the file.

        Raises:
            InputError: The checkpoint cannot be read, or what it has of this is not of its form.
        """
        if is_export(path):
            return None
        checkpoint = describe_checkpoint(find_checkpoint(path))
        described = checkpoint["members"][member] if member else checkpoint
        tokens, state = described.get("tokens_seen"), checkpoint["state_dict"]
        usage = f"arms.{member}.usage" if member else "usage"
        silent = state.get(f"{usage}.tokens_since_fired")
        first = state.get(f"{usage}.first_fired", None if silent is None else torch.full_like(silent, -2))
        if not isinstance(tokens, int) or silent is None or first is None or first.shape != silent.shape:
            raise InputError(f"{path}: its tokens_seen and its usage are not those of a run.")
        last = tokens - silent
        has_fired = (last > 0) & (first != NOT_YET)  # a feature that was restarted has been silent since then
        return cls(tokens, _known(first, first > 0), _known(last, has_fired))

    def columns(self) -> list[Column]:
        """For a table of features."""
        last = f"tokens of training when it last fired, of {self.tokens:,}"
        return [
            Column("first_seen", "first seen", "tokens of training when it first fired", "integer", self.first),
            Column("last_seen", "last seen", last, "integer", self.last),
        ]


def _known(tokens: Int[Tensor, " d_sae"], where: Bool[Tensor, " d_sae"]) -> Float[np.ndarray, " d_sae"]:
    return torch.where(where, tokens.double(), torch.nan).numpy()

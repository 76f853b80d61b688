"""How the trainer writes and reads checkpoints: whole or not at all, checked, and without executing anything."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from vsae_lightning.autoencoders.storage import read_checkpoint
from vsae_lightning.files import replacing
from vsae_lightning.linked_folders import sweep


class CheckpointFiles(CheckpointIO):
    """A checkpoint is one file of `torch.save`, of plain values and tensors only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write it in place of an older one, which stays as it is if that fails.

        Raises:
            OSError: The disk is full, or not to be written on.
        """
        with replacing(Path(path)) as temporary:
            try:
                with temporary.open("wb") as file:
                    torch.save(checkpoint, file)
            except RuntimeError as error:  # torch hides what the file system said
                if isinstance(error.__context__, OSError):
                    raise OSError(error.__context__.errno, error.__context__.strerror, str(path)) from None
                raise
        sweep(Path(path).parent)  # of a sharded checkpoint that stood there

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read it, to the CPU.

        Raises:
            InputError: It is torn or altered, or not a checkpoint of this package.
        """
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove it."""
        Path(path).unlink(missing_ok=True)

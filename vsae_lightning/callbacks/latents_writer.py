"""Latents to disk: what `vsae predict` writes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from safetensors.torch import save_file
from torch import Tensor

from vsae_lightning.autoencoders.latents import Latents, SparseLatents
from vsae_lightning.batches import HeldOutBatch, SyntheticBatch
from vsae_lightning.callbacks.run_folder import run_folder
from vsae_lightning.files import replacing
from vsae_lightning.latent_shards import INDEX_FILE, PATTERN, write_index

if TYPE_CHECKING:
    from vsae_lightning.modules.members import MembersModule


class LatentsWriter(BasePredictionWriter):
    """Writes one safetensors shard per batch: `FOLDER/latents-RANK-BATCH.safetensors`, of a member in `FOLDER/NAME`.

    Each holds what the batch has beside activations (`token_ids`, `positions` and `sequences`, [rows]; or
    the true `codes` of synthetic data) and the latents: `values` and `indices` ([rows, k]) of a sparsifier
    that selects k, `latents` ([rows, d_sae]) of any other. `vsae_lightning.read_latents` reads a whole folder.

    Args:
        folder: None: `latents` in the folder of the checkpoint's run.
    """

    def __init__(self, folder: str | None = None) -> None:
        super().__init__(write_interval="batch")
        self.folder = folder

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shards of an earlier call would mix with those of this one."""
        if trainer.is_global_zero:
            for name in cast("MembersModule", pl_module).members():
                (self._folder(trainer) / name / INDEX_FILE).unlink(missing_ok=True)
                for shard in (self._folder(trainer) / name).glob(PATTERN):
                    shard.unlink()
        trainer.strategy.barrier()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            for name in cast("MembersModule", pl_module).members():
                write_index(self._folder(trainer) / name)

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: dict[str, Latents],
        batch_indices: Any,
        batch: HeldOutBatch | SyntheticBatch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        beside = {key: tensor for key, tensor in batch._asdict().items() if key != "activations"}
        for name, latents in prediction.items():
            if isinstance(latents, SparseLatents):
                tensors = {"values": latents.values, "indices": latents.indices, **beside}
            else:
                tensors = {"latents": latents.dense(), **beside}
            shard = f"latents-{trainer.global_rank:02d}-{batch_idx:06d}.safetensors"
            with replacing(self._folder(trainer) / name / shard) as temporary:
                save_file({key: _stored(tensor) for key, tensor in tensors.items()}, temporary)

    def _folder(self, trainer: Trainer) -> Path:
        if self.folder is not None:
            return Path(self.folder)
        return run_folder(trainer) / "latents"


def _stored(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()

"""Latents to disk: what `vsae predict` writes."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from safetensors.torch import save_file
from torch import Tensor

from vsae_lightning.autoencoders.latents import Latents, SparseLatents
from vsae_lightning.batches import HeldOutBatch
from vsae_lightning.callbacks.run_folder import run_folder
from vsae_lightning.files import replacing


class LatentsWriter(BasePredictionWriter):
    """Writes one safetensors shard per batch: `FOLDER/latents-RANK-BATCH.safetensors`.

    Each holds `token_ids`, `positions` and `sequences` ([rows]) beside the latents: `values` and
    `indices` ([rows, k]) of a sparsifier that selects k, `latents` ([rows, d_sae]) of any other.

    Args:
        folder: None: `latents` in the folder of the checkpoint's run.
    """

    def __init__(self, folder: str | None = None) -> None:
        super().__init__(write_interval="batch")
        self.folder = folder

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shards of an earlier call would mix with those of this one."""
        if trainer.is_global_zero:
            for shard in self._folder(trainer).glob("latents-*.safetensors"):
                shard.unlink()
        trainer.strategy.barrier()

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Latents,
        batch_indices: Any,
        batch: HeldOutBatch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        if isinstance(prediction, SparseLatents):
            tensors = {"values": prediction.values, "indices": prediction.indices}
        else:
            tensors = {"latents": prediction.dense()}
        tensors |= {"token_ids": batch.token_ids, "positions": batch.positions, "sequences": batch.sequences}
        path = self._folder(trainer) / f"latents-{trainer.global_rank:02d}-{batch_idx:06d}.safetensors"
        with replacing(path) as temporary:
            save_file({name: _stored(tensor) for name, tensor in tensors.items()}, temporary)

    def _folder(self, trainer: Trainer) -> Path:
        if self.folder is not None:
            return Path(self.folder)
        return run_folder(trainer) / "latents"


def _stored(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()

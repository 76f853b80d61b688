"""Latents to disk: what `vsae predict` writes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from safetensors.torch import save_file
from torch import Tensor

from vsae_lightning.batches import HeldOutBatch, SyntheticBatch
from vsae_lightning.callbacks.run_folder import run_folder
from vsae_lightning.errors import InputError
from vsae_lightning.files import replacing, require_no_links
from vsae_lightning.latent_shards import begin_index, clear_latents, shard_name, write_index

if TYPE_CHECKING:
    from vsae_lightning.modules.members import MembersModule


class LatentsWriter(BasePredictionWriter):
    """Writes one safetensors shard per batch: `FOLDER/latents-RANK-BATCH.safetensors`, of a member in `FOLDER/NAME`.

    Each holds what the batch has beside activations (`token_ids`, `positions` and `sequences`, [rows]; or
    the true `codes` of synthetic data) and the latents: `values` and `indices` ([rows, k]) of a sparsifier
    that selects k, `latents` ([rows, d_sae]) of any other. `vsae_lightning.read_latents` reads a whole folder.

    Args:
        folder: A new or empty folder, or one that was written so before; None: `latents` in the folder of the
            checkpoint's run.
    """

    def __init__(self, folder: str | None = None) -> None:
        super().__init__(write_interval="batch")
        self.folder = folder

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the shards of an earlier call, which would mix with those of this one.

        Raises:
            InputError: A folder holds anything else, or a link leads out of the run; on all ranks alike.
        """
        problem = None
        if trainer.is_global_zero:
            try:
                for folder in self._folders(trainer, pl_module):
                    clear_latents(folder)
                    begin_index(folder)
            except InputError as error:
                problem = error
        problem = trainer.strategy.broadcast(problem)  # or the other ranks would wait
        if problem is not None:
            raise problem

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            for folder in self._folders(trainer, pl_module):
                write_index(folder)

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: dict[str, dict[str, Tensor]],
        batch_indices: Any,
        batch: HeldOutBatch | SyntheticBatch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        beside = {key: tensor for key, tensor in batch._asdict().items() if key not in ("activations", "left_out")}
        for name, latents in prediction.items():
            tensors = {**latents, **beside}
            shard = shard_name(trainer.global_rank, batch_idx)
            with replacing(self._folder(trainer) / name / shard) as temporary:
                save_file({key: _stored(tensor) for key, tensor in tensors.items()}, temporary)

    def _folders(self, trainer: Trainer, pl_module: LightningModule) -> list[Path]:
        """The folder of each member."""
        folders = [self._folder(trainer) / name for name in cast("MembersModule", pl_module).members()]
        if self.folder is None:
            for folder in folders:
                require_no_links(run_folder(trainer), folder)
        return folders

    def _folder(self, trainer: Trainer) -> Path:
        if self.folder is not None:
            return Path(self.folder)
        return run_folder(trainer) / "latents"


def _stored(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()

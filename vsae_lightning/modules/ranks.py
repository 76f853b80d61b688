"""What ranks that train one module share out, and what they tell each other: rows, or rows and latents."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.sharding import WHOLE, Shards
from vsae_lightning.batches import ActivationBatch
from vsae_lightning.modules.members import MembersModule
from vsae_lightning.modules.resampling import in_lane_order
from vsae_lightning.modules.sharded import require_shardable


class RankedModule(MembersModule):
    """A module of one autoencoder: each rank has rows of its own, or, sharded, all rows and latents of its own."""

    autoencoder: SparseAutoencoder

    def configure_model(self) -> None:
        """Keep this rank's slice of the latents alone, where the strategy shards them; once."""
        if self.device_mesh is not None and not self.is_sharded:
            require_shardable(self, self.autoencoder)
            self.autoencoder.shard_(Shards(self.device_mesh["tensor_parallel"]))

    @property
    def is_sharded(self) -> bool:
        """Whether this rank has a slice of the latents, and every pass the rows of all ranks."""
        return self.autoencoder.shards is not WHOLE

    @property
    def _ranks_with_rows(self) -> int:
        """Ranks that have rows of their own in a pass."""
        return 1 if self.is_sharded else self.trainer.world_size

    def _rank_mean(self, local: Tensor) -> Tensor:
        # In evaluation every chunk stands for itself, whichever the others are that are evaluated meanwhile.
        if self._trainer is None or self.is_sharded or not self.training:
            return local
        return self.trainer.strategy.reduce(local.clone(), reduce_op="mean")  # of a copy: it works in place

    def _rank_means(self, *values: Tensor) -> list[Tensor]:
        """The mean over ranks of each value, in one reduction."""
        packed = self._rank_mean(torch.cat([value.detach().float().flatten() for value in values]))
        parts = packed.split([value.numel() for value in values])
        return [part.view_as(value) for part, value in zip(parts, values, strict=True)]

    def _rank_sum(self, counts: Tensor) -> Tensor:
        return counts if self.is_sharded else self.trainer.strategy.reduce(counts, reduce_op="sum")

    def _all_ranks(self, rows: Float[Tensor, "rows *rest"], batch: ActivationBatch) -> Float[Tensor, "all *rest"]:
        """The rows of all ranks, in the order of the lanes."""
        gathered = self.all_gather(rows)
        assert isinstance(gathered, Tensor)
        return in_lane_order(gathered, len(batch.lanes)) if self.trainer.world_size > 1 else rows

    def _batch_of_all_latents(self, batch: ActivationBatch) -> ActivationBatch:
        """The batch that this rank's latents see: that of all ranks where latents are sharded, else its own."""
        if not self.is_sharded:
            return batch
        lanes = tuple(range(len(batch.lanes) * self.trainer.world_size))
        return batch._replace(activations=self._all_ranks(batch.activations, batch), lanes=lanes)

    def _rows_to_evaluate(self, rows: Float[Tensor, "rows d_in"]) -> list[Float[Tensor, "rows d_in"]]:
        """The held-out rows that this rank's latents see, those of one rank after those of another."""
        return gather_all_tensors(rows.contiguous()) if self.is_sharded else [rows]

"""What evaluation needs and training does not tell: learned from rows of training, as evaluation sees them."""

from abc import abstractmethod
from collections import deque
from typing import Any, cast

import torch
from jaxtyping import Float
from lightning.pytorch.loops.progress import _ProcessedTracker as ProcessedTracker
from torch import Tensor

from vsae_lightning.batches import ActivationBatch
from vsae_lightning.modules.ranks import RankedModule

CALIBRATION_ROWS = 8192  # over all ranks: the L0 of a threshold is then known to about half a percent
ROWS_AT_ONCE = 1024


class CalibratedModule(RankedModule):
    """A module whose sparsifier is calibrated on the last training batches.

    The module keeps references to these batches; nothing is copied or computed in a training step. A threshold is
    calibrated where somebody can see it: before a validation, and in every checkpoint. It is a function of the
    weights and the rows at that step alone, so that a resumed run ends with the same one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._recent: deque[ActivationBatch] = deque()

    @abstractmethod
    def standardize(self, activations: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_in"]:
        """Raw activations to the units the autoencoder is trained in."""

    @torch.no_grad()
    def calibrate(self) -> None:
        """Teach the sparsifier what evaluation needs; all ranks call this together. Before any batch do nothing."""
        sparsifier = self.autoencoder.sparsifier
        if not sparsifier.learns_threshold or not self._recent:
            return
        raw = torch.cat([self._all_ranks(batch.activations, batch) for batch in self._recent])
        x = self.standardize(raw[:: max(1, len(raw) // CALIBRATION_ROWS)])
        parts = (self.autoencoder.evaluation_scores(part) for part in x.split(ROWS_AT_ONCE))
        sparsifier.calibrate((self.autoencoder.shards.gather(part) for part in parts), len(x))

    def keep_for_calibration(self, batch: ActivationBatch) -> None:
        """Keep this batch, and of those before as many as calibration needs."""
        if self.autoencoder.sparsifier.learns_threshold:
            self._recent.append(batch)
            while len(self._recent) > self._batches_needed(batch):
                self._recent.popleft()

    def on_train_start(self) -> None:
        """Ask the stream again for the batches that a resumed run has not seen."""
        self._recent.clear()
        batch_at = getattr(self.trainer.train_dataloader, "batch", None)
        seen = cast(ProcessedTracker, self.trainer.fit_loop.epoch_loop.batch_progress.total).processed
        if batch_at is None or seen == 0 or not self.autoencoder.sparsifier.learns_threshold:
            return
        last = batch_at(seen - 1)
        first = max(0, seen - self._batches_needed(last))
        # In one assignment: the stream may raise when the run is asked to stop.
        self._recent = deque([*(batch_at(step) for step in range(first, seen - 1)), last])

    def on_validation_start(self) -> None:
        self.calibrate()

    def on_train_end(self) -> None:
        self.calibrate()

    def on_fit_end(self) -> None:
        self._recent.clear()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.calibrate()  # in place: the checkpoint holds these very tensors

    def _batches_needed(self, batch: ActivationBatch) -> int:
        return -(-CALIBRATION_ROWS // max(1, len(batch.activations) * self.trainer.world_size))

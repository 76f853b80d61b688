"""Tokens per second, and where the time goes."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from vsae_lightning.errors import InputError


class Throughput(Callback):
    """Logs `train/tokens_per_second` over the steps since the last log, all ranks together.

    With live activations also `train/language_model_share`, the part of that time spent in the language
    model, and `train/dropped_rows`, the rows that the norm filter left out so far (on this rank).

    Args:
        every_n_steps: Batches between two measurements.

    Raises:
        InputError: every_n_steps is smaller than 1.
    """

    def __init__(self, every_n_steps: int = 10) -> None:
        if every_n_steps < 1:
            raise InputError(f"throughput.every_n_steps is {every_n_steps}; it must be at least 1.")
        self.every_n_steps = every_n_steps
        self._since = 0.0
        self._tokens = 0
        self._language_model_seconds = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._tokens += len(batch.activations) * trainer.world_size
        if (batch_idx + 1) % self.every_n_steps:
            return
        seconds = time.perf_counter() - self._since
        values = {"train/tokens_per_second": self._tokens / seconds}
        stream = getattr(getattr(trainer, "datamodule", None), "stream", None)
        if stream is not None:
            values["train/language_model_share"] = (
                stream.language_model_seconds - self._language_model_seconds
            ) / seconds
            values["train/dropped_rows"] = float(stream.dropped_rows)
            self._language_model_seconds = stream.language_model_seconds
        pl_module.log_dict(values)
        self._since, self._tokens = time.perf_counter(), 0

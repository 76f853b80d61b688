"""Tokens per second, and where the time goes."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from vsae_lightning.errors import InputError


class Throughput(Callback):
    """Logs `train/tokens_per_second` over the steps since the last log, all ranks together, without validation.

    With live activations also `train/language_model_share`, the part of that time spent in the language
    model, and `train/dropped_rows`, the rows left out since this process began (on this rank).

    Args:
        every_n_steps: Batches between two measurements; None: those of one block of the stream, each of which
            begins with a pass of the language model, or 10 where there is no stream.

    Raises:
        InputError: every_n_steps is smaller than 1.
    """

    def __init__(self, every_n_steps: int | None = None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise InputError(f"throughput.every_n_steps is {every_n_steps}; it must be at least 1.")
        self.every_n_steps = every_n_steps
        self._window = every_n_steps or 10
        self._since = self._paused_at = 0.0
        self._tokens = 0
        self._language_model_seconds = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.perf_counter()
        stream = _stream(trainer)
        if stream is not None:
            self._language_model_seconds = stream.language_model_seconds
            self._window = self.every_n_steps or stream.steps_per_block

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._paused_at = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since += time.perf_counter() - self._paused_at

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._tokens += len(batch.activations) * trainer.world_size
        if (batch_idx + 1) % self._window:
            return
        seconds = time.perf_counter() - self._since
        values = {"train/tokens_per_second": self._tokens / seconds}
        stream = _stream(trainer)
        if stream is not None:
            values["train/language_model_share"] = (
                stream.language_model_seconds - self._language_model_seconds
            ) / seconds
            values["train/dropped_rows"] = float(stream.dropped_rows)
            self._language_model_seconds = stream.language_model_seconds
        pl_module.log_dict(values)
        self._since, self._tokens = time.perf_counter(), 0


def _stream(trainer: Trainer) -> Any:
    return getattr(getattr(trainer, "datamodule", None), "stream", None)

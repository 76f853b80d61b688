"""Signals that ask a run to stop: it stops between two steps, with a checkpoint, and says how to go on."""

import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from vsae_lightning.errors import InputError, RunStopped, stop_signals
from vsae_lightning.output import Reader

CLOSED_PIPE = getattr(signal, "SIGPIPE", signal.SIGTERM)  # Windows has none


class Interruption(Callback):
    """Stops the run after SIGINT, SIGTERM or SIGUSR1 to any of its processes, at the same step on all of them.

    The step under way is finished, or the validation under way given up, and of one process also the block;
    `LastCheckpoint` saves. Several processes ask each other every `every_n_batches`, and finish their block first.
    A last validation is finished. A second SIGINT stops at once, without a checkpoint. SIGUSR1 is what SLURM sends
    ahead of the end of a job (`--signal=SIGUSR1@90`). A reader of the output that goes away (`| head`) stops the run
    in the same way.

    Args:
        every_n_batches: With several processes, batches after which they ask each other whether to stop.

    Raises:
        InputError: every_n_batches is smaller than 1.
    """

    def __init__(self, every_n_batches: int = 10) -> None:
        if every_n_batches < 1:
            raise InputError(f"interruption.every_n_batches is {every_n_batches}; it must be at least 1.")
        self.every_n_batches = every_n_batches
        self._is_between_steps = True
        self._is_listening = False
        self._received: signal.Signals | None = None
        self._replaced: dict[signal.Signals, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._received, self._is_between_steps = None, True
            self._listen()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stream = getattr(getattr(trainer, "datamodule", None), "stream", None)
        if stream is not None and trainer.world_size == 1:
            stream.before_pass.append(lambda: self._stop_between_steps(trainer))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Once more: the trainer put its own handler, which communicates from within, in place of ours.
        self._listen()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        starts_step = batch_idx % trainer.accumulate_grad_batches == 0
        if starts_step and (trainer.world_size == 1 or batch_idx % self.every_n_batches == 0):
            self._stop_if_asked(trainer)
        self._is_between_steps = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._is_between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if trainer.global_step != trainer.max_steps:
            self._stop_if_asked(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._is_listening = False  # the trainer puts back the handlers that it found, which are these

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore()

    def _listen(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._is_listening = True
        for number in stop_signals():
            handler = signal.signal(number, self._receive)
            if handler != self._receive:
                self._replaced.setdefault(number, handler)

    def _restore(self) -> None:
        for number, handler in self._replaced.items():
            signal.signal(number, handler)
        self._replaced.clear()
        self._is_listening = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self._is_listening or (number == signal.SIGINT and self._received == signal.SIGINT):
            self._pass_on(signal.Signals(number), frame)
            return
        self._received = signal.Signals(number)
        with suppress(OSError):  # nobody reads it any more
            os.write(2, f"\nvsae: {self._received.name}: stopping after this step\n".encode())

    def _pass_on(self, number: signal.Signals, frame: FrameType | None) -> None:
        """Do what would be done without this callback."""
        handler = self._replaced.get(number, signal.SIG_DFL)
        if callable(handler):
            handler(number, frame)
        elif handler is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _stop_between_steps(self, trainer: Trainer) -> None:
        if self._is_between_steps:
            self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: Trainer) -> None:
        number = int(self._received or (CLOSED_PIPE if Reader.has_left else 0))
        if trainer.world_size > 1:
            asked = torch.tensor(number, device=trainer.strategy.root_device)
            torch.distributed.all_reduce(asked, op=torch.distributed.ReduceOp.MAX)
            number = int(asked)
        if number:
            raise RunStopped(signal.Signals(number), trainer.global_step)

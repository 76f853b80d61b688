"""One training step of this package's SAE or VSAE, as a real Trainer takes it, on batches in memory."""

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

import vsae_lightning as vl
from benchmarks.workers.harness import Measured, Settings, StepRecorder, activations, serve
from vsae_lightning.batches import ActivationBatch
from vsae_lightning.modules.base import AutoencoderModule

LANES = 8


class Batches:
    """The same few batches for ever, in the lanes that the data module has by default."""

    def __init__(self, rows: list[Tensor]) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[ActivationBatch]:
        return (self.batch(step) for step in count())

    def batch(self, step: int) -> ActivationBatch:
        rows = self.rows[step % len(self.rows)]
        return ActivationBatch(rows, step, tuple(range(LANES)), step * len(rows) // LANES)


class Clock(Callback):
    """Times the steps from end to end, with all that the Trainer does between them."""

    def __init__(self, recorder: StepRecorder) -> None:
        self.recorder = recorder

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.recorder.end(float(trainer.callback_metrics["train/reconstruction"]))


def measure(settings: Settings) -> Measured:
    module = build(settings)
    recorder = StepRecorder(settings, module.parameters())
    quiet_trainer(recorder.total, settings["clip"], Clock(recorder)).fit(module, Batches(activations(settings)))
    return recorder.result()


def build(settings: Settings) -> AutoencoderModule:
    """The SAE; with `sigma` the VSAE. AuxK is there, and nothing is dead yet."""
    common: dict[str, Any] = {
        "d_in": settings["d_in"],
        "d_sae": settings["d_sae"],
        "sparsifier": vl.TopK(k=settings["k"]),
        "dead_after_tokens": settings["dead_after_tokens"],
        "seed": 0,
        "optimizer": partial(torch.optim.Adam, lr=settings["lr"]),
    }
    sigma = settings.get("sigma")
    return vl.SAE(**common) if sigma is None else vl.VSAE(**common, sigma=sigma, kl_on="selected")


def quiet_trainer(max_steps: int, clip: float, *callbacks: Callback, **options: Any) -> Trainer:
    """A Trainer that trains and does nothing else, on the CPU in float32 where `options` do not say otherwise."""
    return Trainer(
        max_steps=max_steps,
        gradient_clip_val=clip,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        **{"accelerator": "cpu", "log_every_n_steps": 1, **options},
    )


if __name__ == "__main__":
    serve(measure)

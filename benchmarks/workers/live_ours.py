"""Live training with this package: the data module's stream of a local language model, and a real Trainer."""

from pathlib import Path

import numpy as np

import vsae_lightning as vl
from benchmarks.workers.harness import Measured, Settings, StepRecorder, serve, whole_buffers
from benchmarks.workers.step_ours import Clock, build, quiet_trainer
from vsae_lightning.data.tokens import TokenStore


class FixedTokens(vl.ActivationDataModule):
    """Reads the tokens that all contestants read."""

    path: Path

    def tokenize(self) -> TokenStore:
        rows = np.load(self.path, mmap_mode="r")
        return TokenStore(self.path.parent, rows, rows[:1])


def measure(settings: Settings) -> Measured:
    module = build(settings)
    recorder = StepRecorder(whole_buffers(settings), module.parameters(), watch_memory=False)
    data = FixedTokens(
        model_name=settings["model"],
        hook_name=settings["hook"],
        context_length=settings["context"],
        batch_size=settings["batch"],
        block_sequences=settings["buffer"] // settings["context"],
        lm_batch_sequences=settings["lm_batch"],
        drop_positions=0,
        validation_tokens=settings["context"],
        seed=0,
    )
    data.path = Path(settings["tokens"])
    quiet_trainer(recorder.total, settings["clip"], Clock(recorder)).fit(module, datamodule=data)
    return recorder.live(settings["batch"])


if __name__ == "__main__":
    serve(measure)

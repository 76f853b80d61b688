"""Live training with dictionary_learning: its ActivationBuffer of a local language model, its trainSAE."""

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import numpy as np
import torch
from dictionary_learning import ActivationBuffer
from dictionary_learning.trainers.top_k import TopKTrainer
from dictionary_learning.training import trainSAE
from nnsight import LanguageModel
from torch import Tensor
from transformers import BatchEncoding

from benchmarks.workers.harness import Measured, Settings, StepRecorder, serve, whole_buffers


class TokenBuffer(ActivationBuffer):
    """The buffer on tokens instead of texts, which spares it the tokenizer."""

    def text_batch(self, batch_size: int | None = None) -> BatchEncoding:
        tokens = torch.stack([next(self.data) for _ in range(batch_size or self.refresh_batch_size)])
        return BatchEncoding({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})


def measure(settings: Settings) -> Measured:
    settings = whole_buffers(settings, settings["buffer"] // settings["batch"] // 2 + 1)
    recorder = StepRecorder(settings, watch_memory=False)

    class TimedTrainer(TopKTrainer):
        def update(self, step: int, x: Tensor) -> float:
            loss = super().update(step, x)
            recorder.end(float(loss))
            return float(loss)

    trainSAE(data(settings), [trainer_options(TimedTrainer, settings)], steps=recorder.total, device="cpu")
    return recorder.live(settings["batch"])


def data(settings: Settings) -> Iterator[Tensor]:
    model = LanguageModel(settings["model"], device_map="cpu", dispatch=True, attn_implementation="sdpa")
    rows = torch.from_numpy(np.load(settings["tokens"]).astype(np.int64))
    layer = int(settings["hook"].split(".")[1])
    return TokenBuffer(
        cycle(rows),
        model,
        model.gpt_neox.layers[layer],
        d_submodule=settings["d_in"],
        n_ctxs=settings["buffer"] // settings["context"],
        ctx_len=settings["context"],
        refresh_batch_size=settings["lm_batch"],
        out_batch_size=settings["batch"],
    )


def trainer_options(trainer: type, settings: Settings) -> dict[str, Any]:
    return {
        "trainer": trainer,
        "steps": 1_000_000,
        "activation_dim": settings["d_in"],
        "dict_size": settings["d_sae"],
        "k": settings["k"],
        "layer": 0,
        "lm_name": "local",
        "lr": settings["lr"],
        "warmup_steps": 0,
        "seed": 0,
        "device": "cpu",
    }


if __name__ == "__main__":
    serve(measure)

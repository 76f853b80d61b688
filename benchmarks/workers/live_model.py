"""The language model alone, up to the hook, as this package runs it: what no live training can surpass."""

import time

import numpy as np
import torch

from benchmarks.workers.harness import Measured, Settings, peak_bytes, serve
from vsae_lightning.data.language_model import LanguageModel


def measure(settings: Settings) -> Measured:
    model = LanguageModel(settings["model"], settings["hook"])
    model.load("cpu")
    rows = np.load(settings["tokens"]).astype(np.int64)
    batches = torch.from_numpy(rows[: settings["buffer"] // settings["context"]]).split(settings["lm_batch"])
    model.activations(batches[0])
    start = time.perf_counter()
    for tokens in batches:
        model.activations(tokens)
    seconds = time.perf_counter() - start
    return {"tokens_per_second": settings["buffer"] / seconds, "loss_ratio": None, "peak_bytes": peak_bytes()}


if __name__ == "__main__":
    serve(measure)

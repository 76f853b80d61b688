"""This package's activation stream on a language model that costs nothing."""

import numpy as np
import torch
from torch import Tensor

from benchmarks.workers.harness import Measured, Settings, serve, serve_rows, whole_buffers
from vsae_lightning.data.stream import ActivationStream, StreamLayout

LANES = 8


class FreeModel:
    """Returns the same activations for every batch of tokens."""

    dtype = torch.float32

    def __init__(self, settings: Settings) -> None:
        self.d_in: int = settings["d_in"]
        self.returned = torch.randn(settings["lm_batch"], settings["context"], self.d_in)

    def activations(self, tokens: Tensor) -> Tensor:
        return self.returned[: len(tokens)]


def measure(settings: Settings) -> Measured:
    return serve_rows(iter(build(settings)), whole_buffers(settings))


def build(settings: Settings) -> ActivationStream:
    block = settings["buffer"] // settings["context"]
    layout = StreamLayout(
        batch_size=settings["batch"],
        block_sequences=block,
        lanes=LANES,
        drop_positions=0,
        lm_batch_sequences=settings["lm_batch"],
        max_norm_ratio=None,
        seed=0,
    )
    return ActivationStream(FreeModel(settings), np.zeros((2 * block, settings["context"]), dtype=np.uint16), layout)


if __name__ == "__main__":
    serve(measure)

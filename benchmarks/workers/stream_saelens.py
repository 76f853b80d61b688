"""SAELens' mixing buffer on a producer that costs nothing."""

from collections.abc import Iterator

import torch
from sae_lens.training.mixing_buffer import mixing_buffer
from torch import Tensor

from benchmarks.workers.harness import Measured, Settings, serve, serve_rows, whole_buffers


def measure(settings: Settings) -> Measured:
    batches = mixing_buffer(settings["buffer"], settings["batch"], free_activations(settings))
    return serve_rows(batches, whole_buffers(settings, settings["buffer"] // settings["batch"] // 2))


def free_activations(settings: Settings) -> Iterator[Tensor]:
    """As its activations store makes them: the rows of one batch of prompts after the other."""
    returned = torch.randn(settings["lm_batch"] * settings["context"], settings["d_in"])
    while True:
        yield returned


if __name__ == "__main__":
    serve(measure)

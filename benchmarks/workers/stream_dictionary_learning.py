"""dictionary_learning's ActivationBuffer on a traced model that costs nothing."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import repeat
from typing import Any

import torch
from dictionary_learning import ActivationBuffer
from torch import Tensor

from benchmarks.workers.harness import Measured, Settings, serve, serve_rows, whole_buffers


class Saved:
    """What nnsight's `save` gives, known at once."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def save(self) -> "Saved":
        return self

    def stop(self) -> None:
        """There is nothing behind it."""


class FreeModel:
    """As much of a traced nnsight model, and of its layer, as the buffer looks at."""

    dtype = torch.float32

    def __init__(self, settings: Settings) -> None:
        sequences, context = settings["lm_batch"], settings["context"]
        self.output = Saved(torch.randn(sequences, context, settings["d_in"]))
        self.inputs = Saved(((), {"attention_mask": torch.ones(sequences, context, dtype=torch.long)}))

    def trace(self, *args: Any, **kwargs: Any) -> AbstractContextManager[None]:
        return nullcontext()


def measure(settings: Settings) -> Measured:
    return serve_rows(build(settings), whole_buffers(settings, settings["buffer"] // settings["batch"] // 2 + 1))


def build(settings: Settings) -> Iterator[Tensor]:
    model = FreeModel(settings)
    return ActivationBuffer(
        repeat(""),
        model,
        model,
        d_submodule=settings["d_in"],
        n_ctxs=settings["buffer"] // settings["context"],
        ctx_len=settings["context"],
        refresh_batch_size=settings["lm_batch"],
        out_batch_size=settings["batch"],
    )


if __name__ == "__main__":
    serve(measure)

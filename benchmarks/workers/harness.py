"""What every contestant shares: settings in, one line of JSON out; the clock and the memory of its steps.

It runs in the peers' environment too, and so needs nothing but torch.
"""

import ctypes
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

Settings = dict[str, Any]
Measured = dict[str, Any]
RESULT = "RESULT "
DISTRIBUTIONS = (
    "vsae_lightning",
    "dictionary-learning",
    "sae-lens",
    "eai-sparsify",
    "torch",
    "lightning",
    "transformer-lens",
    "transformers",
    "nnsight",
    "numpy",
)


def serve(measure: Callable[[Settings], Measured]) -> None:
    """Measure with the settings on standard input; the result is the last line of standard output."""
    _stay_within_the_machine()
    print(RESULT + json.dumps(with_environment(measure, json.load(sys.stdin))), flush=True)


def _stay_within_the_machine() -> None:
    """Who needs more memory than there is fails of itself, before the system kills somebody else."""
    limit = int(0.9 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def with_environment(measure: Callable[[Settings], Measured], settings: Settings) -> Measured:
    measured = measure(settings)
    return {**measured, "environment": {"threads": torch.get_num_threads(), "versions": versions()}}


def versions() -> dict[str, str]:
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def activations(settings: Settings, count: int = 4) -> list[Tensor]:
    """Random batches with E||x||^2 = d_in; of rank 64, so that there is something to learn."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(64, settings["d_in"], generator=generator) / 8
    return [torch.randn(settings["batch"], 64, generator=generator) @ directions for _ in range(count)]


def whole_buffers(settings: Settings, refill_every: int = 0) -> Settings:
    """The settings with `warmup`, the steps of one buffer, and `steps`, those of `passes` buffers.

    Args:
        settings: `buffer` and `batch` in rows, and `passes`.
        refill_every: Of a buffer that refills itself every so many steps: `steps` is rounded up to whole turns, so that
            as many rows are brought in as are served. 0: every buffer is refilled at its end.
    """
    buffer = settings["buffer"] // settings["batch"]
    turn = refill_every or buffer
    return {**settings, "warmup": buffer, "steps": -(-settings["passes"] * buffer // turn) * turn}


class StepRecorder:
    """Seconds and losses of training steps, and the memory of one more step behind the timed ones.

    The memory of a step is the peak of the resident set during it, less what has to be there in any case: the
    process at rest between two steps, and one gradient per parameter. (At rest the process holds parameters, Adam's
    state and batches. Gradients that a trainer keeps then are not counted twice, and what else it keeps of a step is
    counted as memory of the step.)

    Args:
        settings: `warmup` and `steps`; `batch` and `d_sae`, whose product is the unit of memory.
        parameters: What is trained.
        watch_memory: Take that one more step.
    """

    def __init__(self, settings: Settings, parameters: Iterable[Tensor] = (), watch_memory: bool = True) -> None:
        self.warmup: int = settings["warmup"]
        self.steps: int = settings["steps"]
        self.unit: int = 4 * settings["batch"] * settings["d_sae"]
        self.parameters = list(parameters)
        self.watch_memory = watch_memory
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.at_rest = self.peak = self.peak_of_all = 0
        self.last = time.perf_counter()

    @property
    def total(self) -> int:
        """Steps to take."""
        return self.warmup + self.steps + self.watch_memory

    def end(self, loss: float, kept: Iterable[Tensor] = ()) -> None:
        """Called at the end of every step, with its loss and the tensors that the trainer keeps until the next."""
        now = time.perf_counter()
        done = len(self.losses)
        self.losses.append(loss)
        if self.warmup <= done < self.warmup + self.steps:
            self.seconds.append(now - self.last)
        if self.watch_memory and done == self.total - 2:
            self.peak_of_all = peak_bytes()
            release_freed()
            self.at_rest = resident_bytes() - self._bytes(p.grad for p in self.parameters) - self._bytes(kept)
            forget_peak()
        if self.watch_memory and done == self.total - 1:
            self.peak = peak_bytes()
        self.last = time.perf_counter()

    def result(self) -> Measured:
        gradients = self._bytes(self.parameters)
        return {
            "ms": 1e3 * median(self.seconds),
            "step_ms": [1e3 * seconds for seconds in self.seconds],
            "step_bytes": self.peak - self.at_rest - gradients,
            "step_units": (self.peak - self.at_rest - gradients) / self.unit,
            "state_bytes": 4 * gradients,
            "peak_bytes": max(self.peak_of_all, self.peak),
            "losses": self.losses,
            "loss_ratio": _loss_ratio(self.losses),
        }

    def live(self, batch: int) -> Measured:
        """The rate of live training over all timed steps, whether they waited for the language model or not."""
        return {
            "tokens_per_second": self.steps * batch / sum(self.seconds),
            "ms": 1e3 * sum(self.seconds) / self.steps,
            "step_ms": [1e3 * seconds for seconds in self.seconds],
            "loss_ratio": _loss_ratio(self.losses),
            "peak_bytes": peak_bytes(),
        }

    @staticmethod
    def _bytes(tensors: Iterable[Tensor | None]) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)


def _loss_ratio(losses: list[float]) -> float | None:
    """The last of them by the first: below 1 where something is learned; None where nothing is to be."""
    few = max(1, min(4, len(losses) // 2))
    first, last = sum(losses[:few]), sum(losses[-few:])
    return last / first if first else None


def run(step: Callable[[int], float], recorder: StepRecorder) -> Measured:
    """Take the recorder's steps; each returns its loss."""
    for index in range(recorder.total):
        recorder.end(step(index))
    return recorder.result()


def serve_rows(batches: Iterator[Any], settings: Settings) -> Measured:
    """The rate of a stream over the steps of `whole_buffers`."""
    for _ in islice(batches, settings["warmup"]):
        pass
    start = time.perf_counter()
    for _ in islice(batches, settings["steps"]):
        pass
    seconds = time.perf_counter() - start
    rows = settings["steps"] * settings["batch"]
    return {"us_per_row": 1e6 * seconds / rows, "rows_per_second": rows / seconds, "peak_bytes": peak_bytes()}


def release_freed() -> None:
    """Give the system back what was freed: the allocator keeps blocks below 32 MiB, which would hide their next use."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def forget_peak() -> None:
    """From now on the kernel keeps a new peak of the resident set."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """The largest resident set since the start of the process, or since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

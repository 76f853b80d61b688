"""What the parts of `benchmarks.gpu` share: a problem, a clock, the limits of a device, and a line of the table."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch

# Published by NVIDIA for the SXM boards: bytes per second, and dense FLOP per second; fp32 is without TF32.
BANDWIDTH = {"H100": 3.35e12, "H200": 4.8e12}
PEAK = {"bf16": 989e12, "tf32": 494e12, "fp32": 67e12}


@dataclass(frozen=True)
class Problem:
    """One autoencoder's sizes, and the precision and device of a measurement."""

    d_sae: int
    dtype: torch.dtype
    device: torch.device
    d_in: int = 512
    k: int = 64
    batch: int = 4096
    tf32: bool = False

    @property
    def precision(self) -> str:
        """Of the products."""
        if self.dtype == torch.bfloat16:
            return "bf16"
        return "tf32" if self.tf32 else "fp32"

    def lines(self, measure: "Callable[[Problem], Iterable[Line]]") -> "Iterator[Line]":
        """What is measured of this problem, with products in its precision."""
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = self.tf32
        try:
            yield from measure(self)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before


class Work(NamedTuple):
    """The least that a computation must move and compute: every input and result once."""

    bytes: float
    flop: float


class Line(NamedTuple):
    """One measurement; a roofline is the shorter time that the device's published limits allow, if they are known."""

    what: str
    by: str
    precision: str
    d_sae: int
    milliseconds: float
    tokens: int
    bytes: float | None = None
    flop: float | None = None
    roofline_milliseconds: float | None = None

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.milliseconds * 1e3


class Marks:
    """Points in time in the work of a device, which it reaches later than the program does."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.events: list[torch.cuda.Event] = []
        self.seconds: list[float] = []

    def mark(self) -> None:
        if self.device.type == "cuda":
            self.events.append(torch.cuda.Event(enable_timing=True))
            self.events[-1].record()
        else:
            self.seconds.append(time.perf_counter())

    def milliseconds(self) -> list[float]:
        """Between each mark and the next."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return [one.elapsed_time(other) for one, other in zip(self.events, self.events[1:], strict=False)]
        return [(other - one) * 1e3 for one, other in zip(self.seconds, self.seconds[1:], strict=False)]


def median_milliseconds(run: Callable[[], object], device: torch.device, warm_up: int = 5, repeats: int = 20) -> float:
    for _ in range(warm_up):
        run()
    marks = Marks(device)
    marks.mark()
    for _ in range(repeats):
        run()
        marks.mark()
    return statistics.median(marks.milliseconds())


def roofline(work: Work, precision: str, device_name: str) -> float | None:
    """max(bytes / bandwidth, FLOP / peak) in milliseconds; None for a device whose limits are not listed."""
    for name, bandwidth in BANDWIDTH.items():
        if name in device_name:
            return 1e3 * max(work.bytes / bandwidth, work.flop / PEAK[precision])
    return None

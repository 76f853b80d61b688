"""Rows of one distribution, the same in every test, as a training stream that knows its position."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import count
from typing import Any, cast

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from vsae_lightning.batches import ActivationBatch

D_IN = 12


@lru_cache(maxsize=64)
def rows(number: int, seed: int) -> Tensor:
    """Sparse sums of 40 fixed directions about a mean, and a little noise; of no special scale."""
    directions = torch.randn(40, D_IN, generator=torch.Generator().manual_seed(0))
    chance = torch.Generator().manual_seed(seed)
    strengths = torch.rand(number, 40, generator=chance) * (torch.rand(number, 40, generator=chance) < 0.08)
    return 3 * (strengths @ directions + 0.05 * torch.randn(number, D_IN, generator=chance)) + 1


class FixedStream:
    """Batch t of two lanes is a function of t, and an iteration begins where the trainer is."""

    def __init__(self, trainer: Trainer, batch_size: int, lanes: tuple[int, ...] = (0, 1)) -> None:
        self.trainer = trainer
        self.batch_size = batch_size
        self.lanes = lanes
        self.asked: list[int] = []

    def batch(self, step: int) -> ActivationBatch:
        self.asked.append(step)
        parts = [rows(self.batch_size // 2, 1000 + 2 * step + lane) for lane in self.lanes]
        return ActivationBatch(torch.cat(parts), step, self.lanes, step * self.batch_size // 2)

    def __iter__(self) -> Iterator[ActivationBatch]:
        progress = cast("Any", self.trainer.fit_loop.epoch_loop.batch_progress)
        return (self.batch(step) for step in count(progress.total.processed))


def trained(make: Callable[[], Any], trainer: Trainer, batch_size: int = 512, checkpoint: Any = None) -> Any:
    """The module after a fit on the fixed rows, which may go on from a checkpoint."""
    module = make()
    trainer.fit(module, FixedStream(trainer, batch_size), ckpt_path=checkpoint, weights_only=True)
    return module

"""Several optimizers, each with its schedule, as the one that the trainer steps."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class CombinedOptimizer(Optimizer):
    """Steps every one of `optimizers` after a single evaluation of the closure; their states stay their own."""

    def __init__(self, optimizers: list[Optimizer]) -> None:
        self.optimizers = optimizers
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        # The very dictionaries of the optimizers, so that what a schedule writes is what is shown.
        self.param_groups = [group for optimizer in optimizers for group in optimizer.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.param_groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]


class CombinedSchedule(LRScheduler):
    """Steps every one of `schedules`, each of which belongs to one of the combined optimizers."""

    def __init__(self, optimizer: CombinedOptimizer, schedules: list[LRScheduler]) -> None:
        # Nothing of the base class is wanted but its type: it would take a step of its own.
        self.optimizer = optimizer
        self.schedules = schedules

    def step(self, epoch: int | None = None) -> None:
        for schedule in self.schedules:
            schedule.step()

    def get_last_lr(self) -> list[float | torch.Tensor]:
        return [lr for schedule in self.schedules for lr in schedule.get_last_lr()]

    def state_dict(self) -> dict[str, Any]:
        return {"schedules": [schedule.state_dict() for schedule in self.schedules]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for schedule, state in zip(self.schedules, state_dict["schedules"], strict=True):
            schedule.load_state_dict(state)

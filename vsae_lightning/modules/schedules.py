"""The learning-rate schedule of sparse autoencoders, stepped per optimizer step."""

from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from vsae_lightning.errors import InputError


class WarmupDecay(LRScheduler):
    """Linear warm-up, constant, linear decay to zero over the last part of the run.

    lr(t) = base * min((t + 1) / warmup_steps, 1, (total_steps - t) / (decay_fraction * total_steps)).

    Args:
        optimizer: Whose learning rates are scheduled.
        warmup_steps: Steps of the warm-up.
        decay_fraction: The part of the run over which the rate falls to zero; 0 for no decay.
        total_steps: Length of the run; None: the trainer's `max_steps`, set by the module.

    Raises:
        InputError: warmup_steps is negative, or decay_fraction is not in [0, 1].
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        warmup_steps: int = 0,
        decay_fraction: float = 0.2,
        total_steps: int | None = None,
    ) -> None:
        if warmup_steps < 0:
            raise InputError(f"WarmupDecay: warmup_steps is {warmup_steps}; it must not be negative.")
        if not 0 <= decay_fraction <= 1:
            raise InputError(f"WarmupDecay: decay_fraction is {decay_fraction}; it must be between 0 and 1.")
        self.warmup_steps = warmup_steps
        self.decay_fraction = decay_fraction
        self.total_steps = total_steps
        super().__init__(optimizer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the position alone: a run that is resumed to go on for longer has its own settings."""
        settings = (self.warmup_steps, self.decay_fraction, self.total_steps)
        super().load_state_dict(state_dict)
        self.warmup_steps, self.decay_fraction, self.total_steps = settings
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr

    def factor(self, step: int) -> float:
        """The multiple of the base learning rate at `step`."""
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if not self.total_steps or not self.decay_fraction:
            return warmup
        remaining = max(0, self.total_steps - step)
        return min(warmup, remaining / (self.decay_fraction * self.total_steps))

    def get_lr(self) -> list[float | torch.Tensor]:
        return [base * self.factor(self.last_epoch) for base in self.base_lrs]

"""What an optimizer needs to be fast here: one pass over its numbers, in the order in which they lie in memory."""

import math
from collections.abc import Iterable
from inspect import Parameter, signature
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Adam, AdamW, Optimizer, SparseAdam
from torch.optim.lr_scheduler import OneCycleLR

from vsae_lightning.errors import InputError
from vsae_lightning.modules.schedules import WarmupDecay


def make_optimizer(given: OptimizerCallable | None, parameters: Iterable[nn.Parameter], d_sae: int) -> Optimizer:
    """The optimizer given; Adam at 2e-4 * sqrt(2^14 / d_sae) where none is (Gao et al. 2024, arXiv 2406.04093).

    Raises:
        InputError: An argument of the optimizer is out of range.
    """
    if given is None:
        return Adam(parameters, lr=2e-4 * (2**14 / d_sae) ** 0.5)
    try:
        optimizer: Optimizer = given(parameters)
    except (ValueError, TypeError) as error:
        raise InputError(f"model.init_args.optimizer: {error}") from None
    _require_one_evaluation(optimizer)
    if not math.isfinite(lr := optimizer.param_groups[0]["lr"]):
        raise InputError(f"model.init_args.optimizer: lr is {lr}; it must be a number.")
    return optimizer


def make_schedule(given: LRSchedulerCallable, optimizer: Optimizer, trainer: Trainer) -> dict[str, Any]:
    """The schedule of a run as Lightning takes it: stepped per optimizer step, or after its metric.

    Raises:
        InputError: An argument of the schedule is out of range, or the schedule is shorter than the run.
    """
    try:
        scheduler: Any = given(optimizer)
    except (ValueError, TypeError) as error:
        raise InputError(f"model.init_args.scheduler: {error}") from None
    steps = trainer.max_steps
    if isinstance(scheduler, WarmupDecay) and scheduler.total_steps is None:
        scheduler.total_steps = steps
    if isinstance(scheduler, OneCycleLR) and steps > scheduler.total_steps:
        given_steps = scheduler.total_steps
        raise InputError(
            f"model.init_args.scheduler: OneCycleLR has total_steps {given_steps}, but trainer.max_steps is {steps}."
        )
    schedule = {"scheduler": scheduler, "interval": "step"}
    if isinstance(scheduler, ReduceLROnPlateau):
        held_out = str(scheduler.monitor).startswith("val/")
        # The metric changes with every validation, or with every entry in the log.
        frequency: Any = trainer.val_check_interval if held_out else getattr(trainer, "log_every_n_steps", 1)
        schedule |= {"monitor": scheduler.monitor, "frequency": frequency if isinstance(frequency, int) else 1}
    return schedule


def _require_one_evaluation(optimizer: Optimizer) -> None:
    """Refuse optimizers that ask for the loss several times, or for sparse gradients."""
    name = type(optimizer).__name__
    closure = signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is Parameter.empty:
        raise InputError(
            f"model.init_args.optimizer: {name} evaluates the loss several times a step, which is not supported here."
        )
    if isinstance(optimizer, SparseAdam):
        raise InputError(
            f"model.init_args.optimizer: {name} needs sparse gradients; those here are dense. Give torch.optim.Adam."
        )


class OnePass:
    """Lets Adam and AdamW take a step in one pass over weights, gradient and moments, where nobody chose otherwise.

    Of weights that are stored column by column, as an encoder's are, the step on a CPU would copy all of these; so it
    is shown their transposes, from `begin` to `end`. Moments that are loaded lie in memory as their weights do.

    Args:
        optimizer: Any other than Adam and AdamW is left as it is, but for what it loads.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        optimizer.register_load_state_dict_post_hook(_lay_out_moments)
        groups = optimizer.param_groups
        self.optimizer = optimizer
        self.columns: list[nn.Parameter] = []
        if type(optimizer) not in (Adam, AdamW) or any(map(_is_chosen, groups)):
            return
        for group in groups:
            # Not by the argument: with it, the trainer would leave unscaling to the optimizer, and refuse to clip.
            group["fused"] = True
        self.columns = [p for group in groups for p in group["params"] if _is_stored_by_column(p)]

    def begin(self) -> None:
        """Gradients are what they will be: the next thing that happens is the step."""
        self._transpose(shown=False)

    def end(self) -> None:
        """The step is over, or has failed."""
        self._transpose(shown=True)

    def _transpose(self, shown: bool) -> None:
        for parameter in self.columns:
            if parameter.is_contiguous() == shown and (shown or parameter.grad is not None):
                gradient, parameter.grad = parameter.grad, None
                state = self.optimizer.state[parameter]
                state.update({name: value.T for name, value in state.items() if value.shape == parameter.shape})
                parameter.data = parameter.data.T
                parameter.grad = None if gradient is None else gradient.T


def _is_chosen(group: dict[str, Any]) -> bool:
    """Whether somebody said how these parameters are to be stepped."""
    said = group["fused"] is not None or group["foreach"] is not None
    return bool(said or group["capturable"] or group["differentiable"])


def _is_stored_by_column(parameter: nn.Parameter) -> bool:
    on_cpu = parameter.device.type == "cpu" and not isinstance(parameter, DTensor) and parameter.dim() == 2
    return on_cpu and not parameter.is_contiguous() and parameter.T.is_contiguous()


@torch.no_grad()
def _lay_out_moments(optimizer: Optimizer) -> None:
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

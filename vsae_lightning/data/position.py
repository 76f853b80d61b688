"""The position in an endless stream: one integer, the steps consumed, which the trainer counts."""

from collections.abc import Collection
from typing import Any, cast

from lightning.pytorch import Trainer
from lightning.pytorch.loops.progress import _ProcessedTracker as ProcessedTracker
from lightning.pytorch.trainer.states import TrainerFn

from vsae_lightning.errors import InputError


def steps_consumed(trainer: Trainer) -> int:
    """Training steps so far, over all fits."""
    # The trainer's own count, which a checkpoint restores; every epoch, and a second fit, begins there.
    return cast(ProcessedTracker, trainer.fit_loop.epoch_loop.batch_progress.total).processed


def require_an_end(trainer: Trainer | None) -> None:
    """Raise `InputError` where a fit would never end."""
    if trainer is not None and trainer.state.fn == TrainerFn.FITTING and trainer.max_steps < 0:
        raise InputError("trainer.max_steps is not set; the stream has no end, so say how many steps to train.")


def require_same_layout(trainer: Trainer, saved: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise `InputError` where training goes on with settings under which a step is other rows than before."""
    if trainer.state.fn != TrainerFn.FITTING:
        return
    for name, value in given.items():
        if saved.get(name) != value:
            raise InputError(
                f"data.{name} is {value!r}, but the run of the checkpoint has {saved.get(name)!r}; "
                "the stream could not go on where it was."
            )


def require_same_source(
    trainer: Trainer, saved: dict[str, Any], given: dict[str, Any], allowed: Collection[str]
) -> dict[str, list[Any]]:
    """Refuse to train on with activations of another origin than those of the checkpoint.

    Args:
        trainer: Nothing is refused where it evaluates.
        saved: Options of the data that the checkpoint has, by name; those that it lacks are let pass.
        given: The same of the data that are given.
        allowed: Names that may differ.

    Returns:
        What was changed by leave: the value of the checkpoint, and the one given.

    Raises:
        InputError: With every other name that differs, both values, and how to allow it.
    """
    if trainer.state.fn != TrainerFn.FITTING:
        return {}
    other = {name: [saved[name], value] for name, value in given.items() if name in saved and saved[name] != value}
    if refused := {name: values for name, values in other.items() if name not in allowed}:
        told = "; ".join(f"data.{name} is {now!r}, but the run has {then!r}" for name, (then, now) in refused.items())
        names = ",".join(f"data.{name}" for name in refused)
        raise InputError(f"{told}: leave it as it was, or give --resume.allow {names} to change it.")
    return other

"""The names of what is logged, and when it is."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


def log_key(stage: str, member: str, metric: str) -> str:
    """`train/loss`, or `train/NAME/loss` for a member of an ensemble; a module alone has the member name ''."""
    return "/".join(part for part in (stage, member, metric) if part)


def is_logged(trainer: "Trainer", steps: int) -> bool:
    """Whether the training step after which there are so many `steps` reaches the logger, or is the last.

    Elsewhere a value would only be kept until the next; Lightning takes longer for that than a GPU for the step.
    """
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it elsewhere
    return steps == trainer.max_steps or (every > 0 and steps % every == 0)

"""When it is time to look at a training again."""

from lightning.pytorch import Trainer


def is_due(trainer: Trainer, batch_idx: int, every_n_steps: int | None) -> bool:
    """At the last batch of every `every_n_steps`-th optimizer step, the same on all ranks; None: never."""
    last_of_step = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
    return every_n_steps is not None and last_of_step and trainer.global_step % every_n_steps == 0

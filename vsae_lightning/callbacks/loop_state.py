"""What Lightning's loops write into a checkpoint, brought into the one form in which they resume exactly."""

from copy import deepcopy
from typing import Any

from lightning.pytorch import Trainer


def between_steps(fit_loop: dict[str, Any], global_step: int) -> dict[str, Any]:
    """The state of the fit loop as it is at the end of the last batch that was processed.

    Lightning saves its counters as they are at the moment of saving, and guesses from them where to go on; only for
    a checkpoint saved at the end of a batch does it go on with the next batch, the validation interval and the
    log steps where they were. Wherever between two steps a checkpoint of ours is saved, it says that.

    Args:
        fit_loop: `checkpoint["loops"]["fit_loop"]`.
        global_step: Optimizer steps done.
    """
    state = deepcopy(fit_loop)
    batches = state["epoch_loop.batch_progress"]
    processed = batches["total"]["processed"]
    for counts in (batches["total"], batches["current"]):
        counts.update(ready=processed, started=processed, processed=processed, completed=processed - 1)
    batches["is_last_batch"] = False
    for counts in (state["epoch_progress"]["total"], state["epoch_progress"]["current"]):
        counts.update(ready=1, started=1, processed=0, completed=0)  # there is one epoch, without an end
    for counts in state["epoch_loop.val_loop.batch_progress"].values():
        if isinstance(counts, dict):
            counts.update(dict.fromkeys(counts, 0))
    state["epoch_loop.state_dict"]["_batches_that_stepped"] = global_step - 1
    return state


def validate(trainer: Trainer) -> None:
    """Run the validation loop of a fit, as the trainer does after a step."""
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True

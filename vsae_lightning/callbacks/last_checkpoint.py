"""One checkpoint per run: the last, from which the run goes on as if it had never been interrupted."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from vsae_lightning.callbacks.loop_state import between_steps, validate
from vsae_lightning.callbacks.run_folder import fit_folder
from vsae_lightning.errors import InputError, RunStopped
from vsae_lightning.files import remove_leftovers


class LastCheckpoint(Checkpoint):
    """Keeps `checkpoints/last.ckpt`: replaced every `every_n_steps` steps, at the end, and when the run is stopped.

    It is written between two steps, when all that belongs to the one before, its validation and its log entries
    too, is done; the entries are flushed first. So whatever happens, the run goes on from a point with nothing half
    done. Stopped within a validation, it goes on with that validation.

    Args:
        every_n_steps: Optimizer steps between two checkpoints.

    Raises:
        InputError: every_n_steps is smaller than 1.
    """

    def __init__(self, every_n_steps: int = 1000) -> None:
        if every_n_steps < 1:
            raise InputError(f"checkpoint.every_n_steps is {every_n_steps}; it must be at least 1.")
        self.every_n_steps = every_n_steps
        self._path: Path | None = None
        self._accumulated: int | None = None
        self._saved_step = 0
        self._is_between_steps = False
        self._is_validating = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        folder = fit_folder(trainer) or Path(trainer.default_root_dir)
        self._path = folder / "checkpoints" / "last.ckpt"
        if trainer.is_global_zero:
            remove_leftovers(self._path)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stream = getattr(getattr(trainer, "datamodule", None), "stream", None)
        if stream is not None:
            stream.before_pass.append(lambda: self._save_if_due(trainer))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        batches = trainer.accumulate_grad_batches
        if self._accumulated not in (None, batches):
            raise InputError(
                f"trainer.accumulate_grad_batches is {batches}, but the run of the checkpoint has {self._accumulated}; "
                "its steps could not go on where they were."
            )
        self._accumulated = batches
        self._saved_step = trainer.global_step
        self._is_between_steps = trainer.global_step > 0
        if self._is_validating:  # when the run was stopped
            validate(trainer)
            # A schedule that waits for a metric takes its step after the validation.
            trainer.fit_loop.epoch_loop.update_lr_schedulers("step", update_plateau_schedulers=True)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._save_if_due(trainer)
        self._is_between_steps = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._is_between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_validating = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_validating = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """A run that is stopped is saved first; so is one that comes to bad input, unless other ranks go on."""
        together = isinstance(exception, RunStopped) or (isinstance(exception, InputError) and trainer.world_size == 1)
        if together and self._is_between_steps and trainer.global_step > 0:
            self._save(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Whether the validation of the last step is still to be done, and how many batches a step has."""
        return {"is_validating": self._is_validating, "accumulate_grad_batches": self._accumulated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._is_validating = state_dict["is_validating"]
        self._accumulated = state_dict["accumulate_grad_batches"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["loops"]["fit_loop"] = between_steps(checkpoint["loops"]["fit_loop"], trainer.global_step)

    def _save_if_due(self, trainer: Trainer) -> None:
        # At the last step the end of training saves, when its validation is done.
        due = trainer.global_step % self.every_n_steps == 0 and trainer.global_step != trainer.max_steps
        if due and self._is_between_steps and trainer.global_step != self._saved_step:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        assert self._path is not None
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self._path, weights_only=False)
        self._saved_step = trainer.global_step

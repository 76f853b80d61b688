"""Several autoencoders trained on the same activations, in one pass of the language model."""

import re
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.cli import ReduceLROnPlateau
from torch import nn

from vsae_lightning.batches import ActivationBatch
from vsae_lightning.errors import InputError
from vsae_lightning.memory import keep_freed_memory
from vsae_lightning.modules.announcements import announce
from vsae_lightning.modules.base import AutoencoderModule
from vsae_lightning.modules.combined import CombinedOptimizer, CombinedSchedule
from vsae_lightning.modules.hyperparameters import save_plain_hyperparameters
from vsae_lightning.modules.members import MembersModule

MemberCallable = Callable[[int], AutoencoderModule]


class Ensemble(MembersModule):
    """Trains named members side by side: any mix of SAE and VSAE, of k, of weights, of seeds.

    Each member has its own loss, optimizer, schedule, gradient clipping, feature usage and metrics
    (`train/NAME/...`), and comes out bit-equal to the same member trained alone (CPU, float32);
    `vsae_lightning.load(run, member="NAME")` loads it. The loss that the trainer sees is the sum of theirs.

    Args:
        d_in: Width of the activations; taken from the data on the command line.
        members: By name, `class_path` and `init_args` of SAE or VSAE, all but `d_in`; in Python, functions
            of d_in.

    Raises:
        InputError: No members, or a name that is more than letters, digits, `_` and `-`.
    """

    def __init__(self, d_in: int, members: dict[str, MemberCallable]) -> None:
        super().__init__()
        if not members:
            raise InputError("Ensemble: members is empty; name at least one.")
        for name in members:
            if not re.fullmatch(r"[\w-]+", name):
                raise InputError(f"Ensemble: members has {name!r}; a name is made of letters, digits, _ and -.")
            if hasattr(nn.ModuleDict, name):
                raise InputError(f"Ensemble: members has {name!r}, a name that torch uses itself; choose another.")
        save_plain_hyperparameters(self, ignore=[])
        self.arms = nn.ModuleDict({name: _build(name, make, d_in) for name, make in members.items()})
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]

    def members(self) -> dict[str, AutoencoderModule]:
        return {name: member for name, member in self.arms.items() if isinstance(member, AutoencoderModule)}

    def configure_model(self) -> None:
        if self.device_mesh is not None:
            raise InputError("Ensemble: its members cannot be sharded; train one alone, or use another strategy.")

    def setup(self, stage: str) -> None:
        for member in self.members().values():
            member.trainer = self.trainer

    def on_fit_start(self) -> None:
        keep_freed_memory()
        statistics = getattr(getattr(self.trainer, "datamodule", None), "input_statistics", None)
        new = {name: member for name, member in self.members().items() if member.tokens_seen == 0}
        scaling = statistics() if statistics is not None and new else None
        for name, member in self.members().items():
            announce(member, name)
        for member in new.values():
            if scaling is not None:
                member.take_scaling(*scaling)

    def on_train_start(self) -> None:
        for member in self.members().values():
            member.on_train_start()

    def on_train_end(self) -> None:
        for member in self.members().values():
            member.on_train_end()

    def on_fit_end(self) -> None:
        for member in self.members().values():
            member.on_fit_end()

    def on_validation_start(self) -> None:
        for member in self.members().values():
            member.on_validation_start()

    def on_train_batch_start(self, batch: ActivationBatch, batch_idx: int) -> None:
        for member in self.members().values():
            member.on_train_batch_start(batch, batch_idx)

    def training_step(self, batch: ActivationBatch, batch_idx: int) -> dict[str, Any]:
        results = {name: member.training_pass(batch) for name, member in self.members().items()}
        for (name, result), optimizer in zip(results.items(), self._optimizers(), strict=True):
            self.log_training(name, result.values, optimizer)
        loss: Any = sum(result.loss for result in results.values())
        return {"loss": loss, "members": results}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        for member, own in self._with_optimizers():
            member.on_before_optimizer_step(own)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient of each member by its own norm; skip the step of those alone that are not finite."""
        for member, own in self._with_optimizers():
            member.clip_or_skip(own, gradient_clip_val, gradient_clip_algorithm)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().optimizer_step(*args, **kwargs)
        finally:
            for member in self.members().values():
                member.end_one_pass()
        for member, own in self._with_optimizers():
            member.after_optimizer_step(own)

    def configure_optimizers(self) -> Any:
        configured = [member.configure_optimizers() for member in self.members().values()]
        optimizer = CombinedOptimizer([one["optimizer"] for one in configured])
        schedules = [one["lr_scheduler"]["scheduler"] for one in configured if "lr_scheduler" in one]
        if any(isinstance(schedule, ReduceLROnPlateau) for schedule in schedules):
            raise InputError("Ensemble: ReduceLROnPlateau is not supported for a member; train that member alone.")
        if not schedules:
            return {"optimizer": optimizer}
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": CombinedSchedule(optimizer, schedules), "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["members"] = {}
        for name, member in self.members().items():
            member.on_save_checkpoint(checkpoint["members"].setdefault(name, {}))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, member in self.members().items():
            member.on_load_checkpoint({**checkpoint["members"][name], "global_step": checkpoint["global_step"]})

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        combined = self.trainer.optimizers[0]
        assert isinstance(combined, CombinedOptimizer)
        return combined.optimizers

    def _with_optimizers(self) -> "zip[tuple[AutoencoderModule, torch.optim.Optimizer]]":
        return zip(self.members().values(), self._optimizers(), strict=True)


def _build(name: str, make: MemberCallable, d_in: int) -> AutoencoderModule:
    try:
        return make(d_in)
    except InputError as error:
        raise InputError(f"member {name}: {error}") from None

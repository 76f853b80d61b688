"""Held-out evaluation, written once for a module alone and for the members of an ensemble."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from lightning.pytorch import LightningModule
from torch import Tensor

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.batches import HeldOutBatch, SyntheticBatch
from vsae_lightning.log_keys import log_key
from vsae_lightning.modules.forward import ForwardPass
from vsae_lightning.modules.held_out import HeldOutMetrics
from vsae_lightning.modules.usage import FeatureUsage


@runtime_checkable
class Member(Protocol):
    """What evaluation and callbacks need of a module that trains one autoencoder."""

    autoencoder: SparseAutoencoder
    held_out: HeldOutMetrics
    usage: FeatureUsage
    dead_after_tokens: int
    tokens_seen: int
    input_scale: Float[Tensor, ""]

    @property
    def is_sharded(self) -> bool: ...

    def standardize(self, activations: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_in"]: ...

    def evaluation_pass(self, activations: Float[Tensor, "batch d_in"]) -> ForwardPass: ...


class MembersModule(LightningModule, ABC):
    """Validates, tests and predicts with each of its members; logs `stage/metric`, or `stage/NAME/metric`."""

    @abstractmethod
    def members(self) -> Mapping[str, Member]:
        """The modules that are trained, by name; one alone has the name ''."""

    def validation_step(self, batch: HeldOutBatch | SyntheticBatch, batch_idx: int) -> dict[str, ForwardPass]:
        return self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        self._log_held_out("val")

    def test_step(self, batch: HeldOutBatch | SyntheticBatch, batch_idx: int) -> dict[str, ForwardPass]:
        return self._evaluate(batch)

    def on_test_epoch_end(self) -> None:
        self._log_held_out("test")

    def predict_step(self, batch: HeldOutBatch | SyntheticBatch, batch_idx: int) -> dict[str, Latents]:
        return {
            name: member.autoencoder.latents(member.standardize(batch.activations))
            for name, member in self.members().items()
        }

    def _evaluate(self, batch: HeldOutBatch | SyntheticBatch) -> dict[str, ForwardPass]:
        """The passes are for callbacks that hold them against the truth; elsewhere each is dropped at once."""
        passes = {}
        for name, member in self.members().items():
            forward = member.evaluation_pass(batch.activations)
            if isinstance(batch, SyntheticBatch) and not member.is_sharded:
                passes[name] = forward
        return passes

    def _log_held_out(self, stage: str) -> None:
        for name, member in self.members().items():
            self.log_dict({log_key(stage, name, key): value for key, value in member.held_out.compute().items()})

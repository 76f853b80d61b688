"""Held-out evaluation, written once for a module alone and for the members of an ensemble."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float
from jsonargparse import ArgumentError
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.storage import read_checkpoint
from vsae_lightning.batches import HeldOutBatch, SyntheticBatch
from vsae_lightning.errors import InputError
from vsae_lightning.log_keys import is_logged, log_key
from vsae_lightning.modules.forward import ForwardPass
from vsae_lightning.modules.held_out import HeldOutMetrics
from vsae_lightning.modules.usage import FeatureUsage
from vsae_lightning.readings import READING_ROWS, Readings
from vsae_lightning.trust import trusted_packages, walled
from vsae_lightning.trusted_specs import require_trusted_module

L0_TOLERANCE = 0.05

Loaded = TypeVar("Loaded", bound=LightningModule)


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

    def in_raw_units(self, x_hat: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_in"]: ...

    def calibrate(self) -> None: ...

    def readings(self) -> Readings: ...

    def evaluation_pass(self, activations: Float[Tensor, "batch d_in"]) -> ForwardPass: ...

    def evaluate_left_out(self, activations: Float[Tensor, "batch d_in"]) -> None: ...

    def reconstruction(self, activations: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_in"]: ...


class MembersModule(LightningModule, ABC):
    """Validates, tests and predicts with each of its members; logs `stage/metric`, or `stage/NAME/metric`."""

    def __init__(self) -> None:
        super().__init__()
        self._readings: dict[str, Readings] = {}

    @classmethod
    def load_from_checkpoint(
        cls: type[Loaded],
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        trust: Sequence[str] = (),
        **kwargs: Any,
    ) -> Loaded:
        """A module rebuilt from its checkpoint, as of Lightning, but without executing code that the file names.

        The hyper-parameters may name this class, classes of vsae_lightning, torch.optim and lightning.pytorch, and
        classes of the packages in `trust`. Give any other object, such as an optimizer, as a keyword argument.
        `LightningModule.load_from_checkpoint`, called on the base class, has no such protection: Lightning imports
        what the hyper-parameters of a file name.

        Args:
            checkpoint_path: A file that a Trainer wrote.
            map_location: As of Lightning.
            hparams_file: Not supported.
            strict: As of Lightning.
            weights_only: True or None; False could execute code of the file.
            trust: Import names of packages whose classes the file may name.
            kwargs: Arguments of the constructor, in place of those in the file.

        Raises:
            InputError: The file is no checkpoint of this package, or names code of elsewhere.
        """
        if hparams_file is not None or weights_only is False:
            raise InputError("load_from_checkpoint: hparams_file and weights_only=False could execute code.")
        packages = trusted_packages(trust)
        checkpoint = read_checkpoint(Path(checkpoint_path))
        if other := {"hparams", "module_arguments"} & checkpoint.keys():
            raise InputError(f"{checkpoint_path}: a checkpoint with {min(other)!r}, which ours have not.")
        described = dict(checkpoint["hyper_parameters"])
        given = {name: value for name, value in described.items() if name not in kwargs}
        require_trusted_module(Path(checkpoint_path), given, cls, packages)
        with walled(packages):
            try:
                return super().load_from_checkpoint(checkpoint_path, map_location, None, strict, True, **kwargs)
            except ArgumentError as error:
                raise InputError(f"{checkpoint_path}: hyper_parameters: {' '.join(str(error).split())}") from None

    @abstractmethod
    def members(self) -> Mapping[str, Member]:
        """The modules that are trained, by name; one alone has the name ''."""

    def log_training(self, name: str, values: Mapping[str, Tensor | float], optimizer: Optimizer) -> None:
        """What a training step of a member gave, and its learning rate, where the step is logged."""
        if is_logged(self.trainer, self.global_step + 1):
            lr = float(optimizer.param_groups[0]["lr"])
            self.log_dict({log_key("train", name, key): value for key, value in {**values, "lr": lr}.items()})

    def validation_step(self, batch: HeldOutBatch | SyntheticBatch, batch_idx: int) -> dict[str, ForwardPass]:
        return self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        self._log_held_out("val")

    def on_test_start(self) -> None:
        """Fit the further readings on training rows, where the data module has some."""
        training_rows = getattr(getattr(self.trainer, "datamodule", None), "training_rows", None)
        self._readings = {}
        if training_rows is None:
            return
        unsharded = {name: member for name, member in self.members().items() if not member.is_sharded}
        readings = {name: member.readings() for name, member in unsharded.items()}
        for x in training_rows(READING_ROWS) if readings else ():
            with self.trainer.precision_plugin.forward_context():
                for name, reading in readings.items():
                    reading.take(x, unsharded[name].reconstruction(x))
        for reading in readings.values():
            reading.fit()
        self._readings = readings

    def test_step(self, batch: HeldOutBatch | SyntheticBatch, batch_idx: int) -> dict[str, ForwardPass]:
        return self._evaluate(batch)

    def on_test_epoch_end(self) -> None:
        self._log_held_out("test")
        for name, reading in self._readings.items():
            self.log_dict({log_key("test", name, key): value for key, value in reading.compute().items()})

    def predict_step(self, batch: HeldOutBatch | SyntheticBatch, batch_idx: int) -> dict[str, dict[str, Tensor]]:
        """The latents of every member (one alone is the member ''), as tensors, which a Trainer can collect.

        `values` and `indices` ([rows, k]) of a sparsifier that selects k, `latents` ([rows, d_sae]) of any other.
        """
        return {
            name: member.autoencoder.latents(member.standardize(batch.activations)).tensors()
            for name, member in self.members().items()
        }

    def _evaluate(self, batch: HeldOutBatch | SyntheticBatch) -> dict[str, ForwardPass]:
        """The passes are for callbacks that hold them against the truth; elsewhere each is dropped at once."""
        passes = {}
        for name, member in self.members().items():
            if isinstance(batch, HeldOutBatch) and (len(batch.left_out) or member.is_sharded):
                member.evaluate_left_out(batch.left_out)
            forward = member.evaluation_pass(batch.activations)
            if self.trainer.testing and name in self._readings:
                self._readings[name].update(batch.activations, member.in_raw_units(forward.x_hat))
            if isinstance(batch, SyntheticBatch) and not member.is_sharded:
                passes[name] = forward
        return passes

    def _log_held_out(self, stage: str) -> None:
        for name, member in self.members().items():
            target = member.autoencoder.sparsifier.target_l0(None)
            values = member.held_out.compute(target)
            self.log_dict({log_key(stage, name, key): value for key, value in values.items()})
            if target is not None and self._is_last_word:
                warn_off_target(name, float(values["l0"]), target)

    @property
    def _is_last_word(self) -> bool:
        """Whether no later validation of this run replaces the present one."""
        return self.trainer.state.fn != TrainerFn.FITTING or self.trainer.global_step == self.trainer.max_steps


def warn_off_target(member: str, l0: float, target: int) -> None:
    """Warn where the held-out L0 is more than 5 % off its target: metrics are then those of another sparsity."""
    if abs(l0 / target - 1) > L0_TOLERANCE:
        name = f"{member}: " if member else ""
        rank_zero_warn(
            f"{name}The held-out L0 is {l0:.1f}, {l0 / target - 1:+.0%} from k, {target}: compare with runs of that L0."
        )

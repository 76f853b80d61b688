"""LightningCLI for fit, validate, test and predict."""

import logging
import warnings
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, Namespace
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from vsae_lightning.autoencoders.storage import read_checkpoint, require_whole
from vsae_lightning.callbacks import (
    DeadFeatures,
    DictionaryRecovery,
    LastCheckpoint,
    LatentsWriter,
    Sparsity,
    Throughput,
    TrainingProgress,
)
from vsae_lightning.callbacks.run_record import RunRecord
from vsae_lightning.data.datamodule import ActivationDataModule
from vsae_lightning.data.synthetic import SyntheticDataModule
from vsae_lightning.errors import InputError, input_error_behind
from vsae_lightning.modules.base import AutoencoderModule
from vsae_lightning.modules.ensemble import Ensemble
from vsae_lightning.modules.members import MembersModule
from vsae_lightning.modules.sae import SAE
from vsae_lightning.modules.vsae import VSAE
from vsae_lightning.option_errors import explain
from vsae_lightning.report import report
from vsae_lightning.trainer_options import require_seed, require_sound_options

TRAINER_DEFAULTS = {
    "max_epochs": -1,
    "gradient_clip_val": 1.0,
    "check_val_every_n_epoch": None,
    "val_check_interval": 1000,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 10,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
    "logger": {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {"save_dir": ".", "name": "lightning_logs", "default_hp_metric": False},
    },
}
# The classes that `class_path` names in short; importing them makes them known to the parser.
SHORT_NAMES = (SAE, VSAE, Ensemble, ActivationDataModule, SyntheticDataModule)


class TrainingCLI(LightningCLI):
    """Model and data by class name; `d_in` linked from data to model; callbacks that are always there."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")
        parser.add_lightning_class_args(DeadFeatures, "dead_features")
        parser.add_lightning_class_args(Sparsity, "sparsity")
        parser.add_lightning_class_args(DictionaryRecovery, "dictionary_recovery")
        parser.add_lightning_class_args(Throughput, "throughput")
        parser.add_lightning_class_args(TrainingProgress, "progress")
        parser.add_lightning_class_args(LatentsWriter, "latents")
        parser.link_arguments("data.d_in", "model.init_args.d_in", apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        """An evaluation belongs to the run of its checkpoint: it logs no run of its own."""
        assert self.subcommand is not None
        config = self.config[self.subcommand]
        require_sound_options(config, fits=self.subcommand == "fit")
        config.weights_only = True
        if self.subcommand == "fit":
            interval, steps = config.trainer.val_check_interval, config.trainer.max_steps
            if isinstance(interval, int) and 0 < steps < interval:
                config.trainer.val_check_interval = steps  # or the run would end without held-out metrics
            return
        if config.ckpt_path is None:
            raise InputError(f"{self.subcommand} needs a trained model: give RUN, or --ckpt_path.")
        config.trainer.logger = False
        if "verbose" in config:
            config.verbose = False
        if "return_predictions" in config:
            config.return_predictions = False

    def after_instantiate_classes(self) -> None:
        _require_shared_lanes(self.datamodule, self.trainer.world_size)
        if self.subcommand == "fit":
            _require_optimizers(self.model)
            _require_a_place(self.trainer)
        checkpoint = self._checkpoint()
        if checkpoint is None:
            return
        trained, given = checkpoint["hyper_parameters"]["d_in"], self.datamodule.d_in
        if trained != given:
            raise InputError(f"the checkpoint has d_in {trained}, but the activations of this data have {given}.")
        path = Path(self.config[self.config.subcommand].ckpt_path)
        require_whole(path, checkpoint, self.model.state_dict(), resume=self.subcommand == "fit")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        try:
            return super().instantiate_trainer(**kwargs)
        except (TypeError, ValueError, MisconfigurationException) as error:  # of options that exclude each other
            raise InputError(f"trainer: {error}") from None

    def _set_seed(self) -> None:
        require_seed(self.config[self.subcommand].seed_everything)
        super()._set_seed()

    def _parse_ckpt_path(self) -> None:
        """Refuse a model that differs from the checkpoint's; Lightning would silently keep the latter."""
        subcommand = self.config.subcommand
        config = self.config[subcommand]
        if config.get("ckpt_path") == "last":
            config.ckpt_path = str(_newest_checkpoint())
        checkpoint = self._checkpoint()
        if checkpoint is None:
            return
        step = checkpoint.get("global_step")
        if subcommand == "fit" and isinstance(step, int) and 0 <= config.trainer.max_steps <= step:
            raise InputError(f"the checkpoint is at step {step} already; raise trainer.max_steps.")
        irrelevant = ("d_in", "scheduler") if subcommand == "fit" else ("d_in", "scheduler", "optimizer")
        trained = dict(checkpoint["hyper_parameters"])
        given = config.model.as_dict()
        _refuse_difference("model.class_path", trained["_class_path"], given["class_path"])
        for name, value in given.get("init_args", {}).items():
            if name in trained and name not in irrelevant:
                _refuse_difference(f"model.init_args.{name}", trained[name], value, irrelevant)

    def _checkpoint(self) -> dict[str, Any] | None:
        path = self.config[self.config.subcommand].get("ckpt_path")
        if path is None:
            return None
        if not Path(path).is_file():
            raise InputError(f"ckpt_path: there is no file {str(path)!r}.")
        return read_checkpoint(Path(path))


def run(command: str, options: list[str]) -> None:
    """Parse the options of one command and run it.

    Raises:
        InputError: Any option or configuration that cannot be used.
    """
    _quieten()
    try:
        cli = TrainingCLI(
            model_class=MembersModule,
            datamodule_class=LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=RunRecord,
            seed_everything_default=0,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_kwargs={"prog": "vsae", "exit_on_error": False}
            | {name: {"exit_on_error": False} for name in TrainingCLI.subcommands()},
            auto_configure_optimizers=False,
            args=[command, *options],
        )
    except ArgumentError as error:
        raise InputError(explain(str(error), command, options)) from None
    except MisconfigurationException as error:
        raise InputError(str(error)) from None
    except ValueError as error:
        raise input_error_behind(error) or error from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise InputError(f"{error.filename!r} cannot be used: {error.strerror}.") from None
    report(cli.trainer, command)


def _require_optimizers(model: MembersModule) -> None:
    """Learning rates and their like are judged by the optimizer; ask it before any text is read."""
    for member in model.members().values():
        if isinstance(member, AutoencoderModule):
            member.make_optimizer()


def _require_a_place(trainer: Trainer) -> None:
    """Runs land in a folder; something else may have its name."""
    root = getattr(trainer.logger, "root_dir", None)
    if root is not None and Path(root).exists() and not Path(root).is_dir():
        raise InputError(f"trainer.logger: runs land in {str(root)!r}, which is not a folder.")


def _require_shared_lanes(data: LightningDataModule, ranks: int) -> None:
    """Known before any rank is started, and any file written."""
    lanes = getattr(data, "lanes", ranks)
    if lanes % ranks:
        raise InputError(f"data.lanes is {lanes}; it must be a multiple of the {ranks} ranks (trainer.devices).")


def _refuse_difference(option: str, trained: Any, given: Any, irrelevant: tuple[str, ...] = ()) -> None:
    if isinstance(given, Namespace):
        given = given.as_dict()
    given = list(given) if isinstance(given, tuple) else given
    if isinstance(trained, dict) and isinstance(given, dict):
        for key in (trained.keys() | given.keys()) - {*irrelevant}:
            _refuse_difference(f"{option}.{key}", trained.get(key), given.get(key), irrelevant)
    elif option.endswith(".class_path"):
        _refuse_difference(option.removesuffix(".class_path"), _name(trained), _name(given))
    elif trained != given:
        raise InputError(
            f"{option} is {given!r}, but the checkpoint has {trained!r}: leave it out, or drop --ckpt_path."
        )


def _name(class_path: str) -> str:
    """The class, by whichever module it was named."""
    return class_path.rsplit(".", 1)[-1]


def _newest_checkpoint() -> Path:
    found = sorted(
        Path("lightning_logs").glob("version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime
    )
    if not found:
        raise InputError(
            "ckpt_path: 'last' was asked for, but there is no lightning_logs/version_*/checkpoints/last.ckpt."
        )
    return found[-1]


def _quieten() -> None:
    """Leave the terminal to what a user can act on."""
    advertising = ("TPU", "litlogger", "LOCAL_RANK")
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).addFilter(lambda record: not any(word in record.getMessage() for word in advertising))
    for message in ("LightningCLI's args parameter", ".*isinstance.treespec, LeafSpec", ".*infer the batch indices"):
        warnings.filterwarnings("ignore", message=message)

"""LightningCLI for fit, validate, test and predict."""

import logging
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch.distributed as dist
import yaml
from jsonargparse import ArgumentError, Namespace, set_parsing_settings
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_only
from rich.console import Console

from vsae_lightning.autoencoders.storage import require_state
from vsae_lightning.callbacks import (
    DeadFeatures,
    DictionaryRecovery,
    FeatureExamples,
    Interruption,
    LastCheckpoint,
    LatentMap,
    LatentsWriter,
    LossRecovered,
    SkippedSteps,
    Sparsity,
    Throughput,
    TrainingProgress,
)
from vsae_lightning.callbacks.run_folder import run_logger
from vsae_lightning.callbacks.run_record import RunRecord
from vsae_lightning.checkpoint_files import CheckpointFiles
from vsae_lightning.data.datamodule import ActivationDataModule
from vsae_lightning.data.synthetic import SyntheticDataModule
from vsae_lightning.errors import InputError, RunStopped, input_error_behind
from vsae_lightning.modules.base import AutoencoderModule
from vsae_lightning.modules.ensemble import Ensemble
from vsae_lightning.modules.members import MembersModule
from vsae_lightning.modules.optimizers import make_optimizer
from vsae_lightning.modules.sae import SAE
from vsae_lightning.modules.vsae import VSAE
from vsae_lightning.monitors import require_known_monitors
from vsae_lightning.option_errors import explain
from vsae_lightning.report import report, report_finished
from vsae_lightning.resuming import Resumption, RunFinished, allowed_changes, checkpoint_of, last_run
from vsae_lightning.run_logger import with_folder
from vsae_lightning.run_settings import as_options, settings_of_run
from vsae_lightning.runs import CHECKPOINT, LOGS, NamedRun, newest_trained
from vsae_lightning.slurm import requeue
from vsae_lightning.trainer_options import callbacks_left_out, require_seed, require_sound_options
from vsae_lightning.trust import told_trust, walled
from vsae_lightning.trusted_text import (
    files_named,
    reads_local_files,
    require_files_of_training,
    require_harmless_text,
    store_of_training,
)

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
        "class_path": "vsae_lightning.run_logger.RunLogger",
        "init_args": {"save_dir": ".", "name": "lightning_logs", "default_hp_metric": False},
    },
}
OF_A_RUN = ("validate", "test", "predict")
TRUST_HELP = "Packages of yours whose classes RUN may name, separated by commas. Their code runs. (default: none)"
TRUST_TEXT_HELP = "Read any text that RUN names: other local files than those of its training, and any address."
ALLOW_HELP = (
    "Options of the data that a resumed run may change, separated by commas, as data.hook_name. (default: none)"
)
# The classes that `class_path` names in short; importing them makes them known to the parser.
SHORT_NAMES = (SAE, VSAE, Ensemble, ActivationDataModule, SyntheticDataModule)


class TrainingCLI(LightningCLI):
    """Model and data by class name; `d_in` linked from data to model; callbacks that are always there."""

    def __init__(self, command: str, options: list[str], named: NamedRun | None, **kwargs: Any) -> None:
        self._command = command
        self._named = named
        super().__init__(args=[command, *options], **kwargs)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning's is static
        """The one that is run: to make the parsers of the others takes longer than to parse."""
        return {self._command: super().subcommands()[self._command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")
        parser.add_lightning_class_args(Interruption, "interruption")
        parser.add_lightning_class_args(SkippedSteps, "skipped_steps")
        parser.add_lightning_class_args(DeadFeatures, "dead_features")
        parser.add_lightning_class_args(Sparsity, "sparsity")
        parser.add_lightning_class_args(DictionaryRecovery, "dictionary_recovery")
        parser.add_lightning_class_args(LossRecovered, "loss_recovered")
        parser.add_lightning_class_args(LatentMap, "latent_map")
        parser.add_lightning_class_args(FeatureExamples, "feature_examples")
        parser.add_lightning_class_args(Throughput, "throughput")
        parser.add_lightning_class_args(TrainingProgress, "progress")
        parser.add_lightning_class_args(LatentsWriter, "latents")
        if self._command in OF_A_RUN:  # the command line has taken them by now; here they are for --help
            parser.add_argument("--trust", type=str | None, help=TRUST_HELP)
            parser.add_argument("--trust_text", type=bool, default=False, help=TRUST_TEXT_HELP)
        if self._command == "fit":
            parser.add_argument("--resume.allow", type=str | None, help=ALLOW_HELP)
        parser.link_arguments("data.d_in", "model.init_args.d_in", self._fitting_width, apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Find the checkpoint, and refuse a model that differs from its; Lightning would silently keep the latter."""
        command, config = self.config.subcommand, self.config[self.config.subcommand]
        self.resumed: Resumption | None = None
        self.folder: Path | None = None
        if last := config.get("ckpt_path") == "last":
            config.ckpt_path = self._last_of_this_run(config) if command == "fit" else newest_trained(LOGS) / CHECKPOINT
        if config.get("ckpt_path") is None:
            return
        if (Path(config.ckpt_path) / CHECKPOINT).exists():
            config.ckpt_path = Path(config.ckpt_path) / CHECKPOINT  # of a run folder
        if not Path(config.ckpt_path).exists():
            raise InputError(f"ckpt_path: there is no file {str(config.ckpt_path)!r}.")
        config.ckpt_path = str(config.ckpt_path)
        self.resumed = Resumption(Path(config.ckpt_path), trains=command == "fit")
        irrelevant = ("d_in", "scheduler", "torch_compile", *(("optimizer",) if command != "fit" else ()))
        self.resumed.refuse_other_model(config.model.as_dict(), irrelevant)
        if command == "fit":
            scheduler = (config.model.as_dict().get("init_args") or {}).get("scheduler") or {}
            self.resumed.tell_of_schedule(
                config.trainer.max_steps, (scheduler.get("init_args") or {}).get("total_steps")
            )
            self.folder = self.resumed.folder
            if 0 <= config.trainer.max_steps <= self.resumed.step:
                if last and self.folder is not None:
                    raise RunFinished(self.folder)
                raise InputError(
                    f"the run is at step {self.resumed.step} already, and finished; to go on, raise trainer.max_steps."
                )

    def before_instantiate_classes(self) -> None:
        """An evaluation belongs to the run of its checkpoint: it logs no run of its own."""
        assert self.subcommand is not None
        config = self.config[self.subcommand]
        require_sound_options(config, fits=self.subcommand == "fit")
        config.weights_only = True
        if self.subcommand == "fit":
            interval, steps = config.trainer.val_check_interval, config.trainer.max_steps
            batches = steps * config.trainer.accumulate_grad_batches
            if isinstance(interval, int) and 0 < batches < interval:
                config.trainer.val_check_interval = batches  # or the run would end without held-out metrics
            return
        if config.ckpt_path is None:
            raise InputError(f"{self.subcommand} needs a trained model: give RUN, or --ckpt_path.")
        config.trainer.logger = False
        if self._named is not None and not self._named.trust_text:
            require_harmless_text(self._text(), f"RUN: {self._named.name!r}: data.text")
        if "verbose" in config:
            config.verbose = False
        if "return_predictions" in config:
            config.return_predictions = False

    def after_instantiate_classes(self) -> None:
        self.trainer.strategy.checkpoint_io = CheckpointFiles()
        _require_shared_lanes(self.datamodule, self.trainer.world_size)
        if self.subcommand == "fit":
            _require_optimizers(self.model)
            _require_a_place(self.trainer)
            require_known_monitors(self.trainer, self.model)
        if self.resumed is not None:
            self._require_fitting_checkpoint(self.resumed)
            self.datamodule.allowed_to_change = allowed_changes(self.config[self.subcommand].get("resume.allow") or "")
        if self._named is not None and not self._named.trust_text and isinstance(self.datamodule, ActivationDataModule):
            self._require_text_of_training(self._named)
        logger = run_logger(self.trainer)
        if self.folder is not None and logger is not None:
            logger.go_on(self.folder, self.resumed.step if self.resumed else 0)

    def _fitting_width(self, d_in: int) -> int:
        """The width of the data's activations, refused where the checkpoint has another, before a module is made."""
        if self.resumed is not None:
            self.resumed.refuse_other_width(d_in)
        return d_in

    def _require_fitting_checkpoint(self, resumed: Resumption) -> None:
        path = Path(self.config[self.subcommand].ckpt_path)
        require_state(path, resumed.checkpoint, self.model.state_dict())

    def _require_text_of_training(self, named: NamedRun) -> None:
        """Local files that RUN names are read where they are those of its training; other files the user named."""
        if reads_local_files(self._text()) and files_named(self._text()) == files_named(named.text):
            require_files_of_training(
                named.name, self.datamodule.store_key(), store_of_training(named.folder).get("key")
            )

    def _text(self) -> Any:
        """The text of the data, as the config has it."""
        data = self.config[self.subcommand].data.as_dict()
        return (data.get("init_args") or {}).get("text")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer = self.config[self.subcommand].trainer
        left_out = callbacks_left_out(trainer)
        parser = self._parser(self.subcommand)
        parser.callback_keys = [name for name in parser.callback_keys if name not in left_out]
        if self.subcommand == "fit" and not trainer.fast_dev_run:
            given = self._get(self.config_init, "trainer")["logger"]
            kwargs["logger"] = with_folder(given, trainer.default_root_dir, goes_on=self.folder is not None)
        try:
            return super().instantiate_trainer(**kwargs)
        except (TypeError, ValueError, MisconfigurationException) as error:  # of options that exclude each other
            raise InputError(f"trainer: {error}") from None

    def _set_seed(self) -> None:
        require_seed(self.config[self.subcommand].seed_everything)
        super()._set_seed()

    def _last_of_this_run(self, config: Namespace) -> Path | None:
        plain = yaml.safe_load(self._parser("fit").dump(config, skip_none=False))
        self.folder = last_run(config.trainer, plain)
        checkpoint = None if self.folder is None else checkpoint_of(self.folder)
        if checkpoint is None:
            where = f"{self.folder} has no checkpoint yet" if self.folder else "no run has this configuration yet"
            rank_zero_info(f"--ckpt_path last: {where}: starting from the beginning.")
        return checkpoint


class TokenizingCLI(TrainingCLI):
    """Takes the options of `fit`, and makes nothing of them but the data: no device of the trainer is asked for."""

    def instantiate_classes(self) -> None:
        data = Namespace(data=self.config[self.subcommand].data)
        self.datamodule = self._parser(self.subcommand).instantiate_classes(data).data

    def after_instantiate_classes(self) -> None:
        """There is no trainer to prepare."""

    def _parse_ckpt_path(self) -> None:
        """A checkpoint has no part in it."""
        self.resumed = None

    def _run_subcommand(self, subcommand: str) -> None:
        if not isinstance(self.datamodule, ActivationDataModule):
            raise InputError(f"data: {type(self.datamodule).__name__} has no text to tokenize.")
        store = self.datamodule.tokenize()
        console = Console(highlight=False)
        console.print(f"training: {store.train.size:,} tokens, held out: {store.held_out.size:,} tokens")
        console.print(f"token store: {store.folder}")


def run(command: str, options: list[str], named: NamedRun | None = None) -> None:
    """Parse the options of one command and run it.

    Args:
        command: One of Lightning's, or `tokenize`.
        options: What the user typed.
        named: RUN, whose settings come before the options; the wall stands around all that it names.

    Raises:
        InputError: Any option or configuration that cannot be used.
    """
    _quieten()
    set_parsing_settings(instantiate_subclass_spec_in_any=False)
    joined_before = _is_rank()
    tokenizes = command == "tokenize"
    parsed = "fit" if tokenizes else command
    try:
        with ExitStack() as wall:
            if named is not None:
                trust = told_trust(",".join(named.trust))
                wall.enter_context(walled(trust))
                settings = settings_of_run(named._replace(trust=trust))
                named = named._replace(trust=trust, text=settings["data"]["init_args"].get("text"))
                options = [as_options(settings), f"--ckpt_path={named.checkpoint}", *options]
            cli = (TokenizingCLI if tokenizes else TrainingCLI)(
                parsed,
                options,
                named,
                model_class=MembersModule,
                datamodule_class=LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_callback=RunRecord,
                seed_everything_default=0,
                trainer_defaults=TRAINER_DEFAULTS,
                parser_kwargs={
                    "prog": "vsae",
                    "exit_on_error": False,
                    "allow_abbrev": False,
                    parsed: _parser_options(command),
                },
                auto_configure_optimizers=False,
            )
    except ArgumentError as error:
        raise InputError(explain(str(error), command, options)) from None
    except MisconfigurationException as error:
        raise InputError(str(error)) from None
    except ValueError as error:
        raise input_error_behind(error) or error from None
    except RuntimeError as error:
        if "monitor" not in str(error) and "conditioned on metric" not in str(error):
            raise
        raise InputError(str(error)) from None
    except RunStopped as stop:
        if not joined_before:
            _leave_ranks()
        if getattr(rank_zero_only, "rank", 0) != 0:
            sys.exit(0)  # with any other status, whoever started the processes would kill the first one
        if getattr(stop.why, "name", None) == "SIGUSR1":
            rank_zero_info(f"SLURM: {requeue()}")
        raise
    except RunFinished as finished:
        report_finished(finished.folder)
        return
    except (FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise InputError(f"{error.filename!r} cannot be used: {error.strerror}.") from None
    if not joined_before:
        _leave_ranks()
    if not tokenizes:
        report(cli.trainer, command)


def _parser_options(command: str) -> dict[str, Any]:
    """How a command's parser behaves, and how its help begins."""
    usages = {
        "fit": "vsae fit --config FILE.yaml [--option VALUE ...]",
        "tokenize": "vsae tokenize --config FILE.yaml [--option VALUE ...]\n\nMake the token cache of a config; of the "
        "options of fit, those of --data are of use.",
    }
    usage = usages.get(command, f"vsae {command} RUN [--option VALUE ...]\n\nRUN: a run folder, a checkpoint, or last.")
    return {"exit_on_error": False, "usage": usage}


def _require_optimizers(model: MembersModule) -> None:
    """Learning rates and their like are judged by the optimizer; ask it before any text is read."""
    for member in model.members().values():
        if isinstance(member, AutoencoderModule):
            make_optimizer(member.optimizer, member.parameters(), member.autoencoder.d_sae)


def _require_a_place(trainer: Trainer) -> None:
    """Runs land in a folder; something else may have its name."""
    root = getattr(run_logger(trainer), "root_dir", None)
    if root is not None and Path(root).exists() and not Path(root).is_dir():
        raise InputError(f"trainer.logger: runs land in {str(root)!r}, which is not a folder.")


def _require_shared_lanes(data: LightningDataModule, ranks: int) -> None:
    """Known before any rank is started, and any file written."""
    lanes = getattr(data, "lanes", ranks)
    if lanes % ranks:
        raise InputError(f"data.lanes is {lanes}; it must be a multiple of the {ranks} ranks (trainer.devices).")


def _leave_ranks() -> None:
    """Close the process group together; left to the exit of Python, its threads may abort a run that is done."""
    if _is_rank():
        dist.barrier()
        dist.destroy_process_group()


def _is_rank() -> bool:
    return dist.is_available() and dist.is_initialized()


def _quieten() -> None:
    """Leave the terminal to what a user can act on."""
    advertising = ("TPU", "litlogger", "LOCAL_RANK")
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).addFilter(lambda record: not any(word in record.getMessage() for word in advertising))
    messages = ("LightningCLI's args parameter", ".*isinstance.treespec, LeafSpec", ".*infer the batch indices")
    # Metrics are of all ranks already.
    for message in (*messages, ".*sync_dist=True", ".*all_gather.* is deprecated"):
        warnings.filterwarnings("ignore", message=message)

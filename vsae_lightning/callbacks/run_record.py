"""A run folder that explains itself: config, versions, seed, code, data and metrics."""

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_only, rank_zero_warn
from torch.utils.tensorboard.summary import hparams

from vsae_lightning.callbacks.loop_state import validate
from vsae_lightning.callbacks.run_folder import fit_folder, run_folder, run_logger, tensorboard
from vsae_lightning.errors import InputError
from vsae_lightning.files import replacing, write_json
from vsae_lightning.log_keys import log_key
from vsae_lightning.redaction import options_with_secrets, redacted, redacted_words
from vsae_lightning.versions import versions

if TYPE_CHECKING:
    from vsae_lightning.data.tokens import TokenStore
    from vsae_lightning.modules.members import Member, MembersModule

HPARAM_METRICS = ("explained_variance", "l0", "dead_fraction", "reconstruction", "cosine")


class RunRecord(SaveConfigCallback):
    """Writes `config.yaml` and `run.json` when a run starts; `fit.json`, `validate.json` or `test.json` at its end.

    The metrics files are flat: `stage/metric` keys, then versions, config, seed, tokens and checkpoint. Those known
    when a checkpoint is written are part of it, so that a run that goes on ends with all of them. No file has a
    secret of the configuration: `vsae_lightning.redaction.REMOVED` stands in its place.

    Raises:
        InputError: Another process is training in this run's folder.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._metrics: dict[str, float] = {}
        self._validated_step = -1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        warn_of_secrets(self._typed)
        if stage != "fit":
            return
        folder, logger = fit_folder(trainer), run_logger(trainer)
        if trainer.is_global_zero and folder is not None:
            if logger is not None:
                logger.take()
            if not (folder / self.config_filename).exists():  # that of a run that goes on may yet be refused
                self._write_config(folder)

    def state_dict(self) -> dict[str, Any]:
        return {"metrics": self._metrics, "validated_step": self._validated_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._metrics = state_dict["metrics"]
        self._validated_step = state_dict.get("validated_step", -1)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = fit_folder(trainer)
        if folder is not None and trainer.is_global_zero:
            self._write_config(folder)
            write_json(
                folder / "run.json", self._origin(trainer) | {"started_from": os.path.relpath(Path.cwd(), folder)}
            )
        if (logger := tensorboard(trainer)) is not None:
            # Names the metrics of the HPARAMS tab; it reads their values from the scalars logged later.
            model = redacted(dict(pl_module.hparams))
            flat = _flatten({"model": model, "data": self._config.get("data")})
            writer = logger.experiment._get_file_writer()
            metrics = [log_key("val", name, metric) for name in _members(pl_module) for metric in HPARAM_METRICS]
            for summary in hparams(flat, dict.fromkeys(metrics, 0)):
                writer.add_summary(summary)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """A run that ends before it began, or for bad input before its first checkpoint, leaves no folder behind."""
        logger = run_logger(trainer)
        if logger is not None and trainer.is_global_zero:
            is_new = not (Path(logger.log_dir) / self.config_filename).exists()
            logger.discard = is_new or isinstance(exception, InputError)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Before the last checkpoint: where that is, this is.
        if trainer.enable_validation and self._validated_step != trainer.global_step:
            validate(trainer)  # or the metrics beside the last checkpoint would be of an earlier one
        folder = fit_folder(trainer)
        if folder is not None and trainer.is_global_zero:
            checkpoint = folder / "checkpoints" / "last.ckpt"
            self._write_metrics(folder / "fit.json", trainer, pl_module, str(checkpoint))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._validated_step = trainer.global_step
        self._record_validation(trainer, pl_module)

    @rank_zero_only
    def _record_validation(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._write_metrics(run_folder(trainer) / "validate.json", trainer, pl_module, str(trainer.ckpt_path))

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write_metrics(run_folder(trainer) / "test.json", trainer, pl_module, str(trainer.ckpt_path))

    def _write_metrics(self, path: Path, trainer: Trainer, pl_module: LightningModule, checkpoint: str) -> None:
        known = self._metrics if trainer.state.fn == TrainerFn.FITTING else {}
        metrics = known | {name: float(value) for name, value in trainer.callback_metrics.items()}
        first = next(iter(_members(pl_module).values()))
        histograms = _histograms(trainer, pl_module)
        tokens = {"train/tokens": first.tokens_seen, "checkpoint": checkpoint}
        write_json(path, {**dict(sorted(metrics.items())), **histograms, **tokens, **self._origin(trainer)})

    def _origin(self, trainer: Trainer) -> dict[str, Any]:
        """What is needed to run it again, and to know whether it would be the same."""
        data = getattr(trainer, "datamodule", None)
        tokens, statistics = getattr(data, "tokens", None), getattr(data, "statistics", None)
        return {
            "versions": versions(),
            "seed": self._config.get("seed_everything"),
            "command": redacted_words([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "git": _git_state(),
            "device": str(trainer.strategy.root_device),
            "world_size": trainer.world_size,
            "token_store": tokens and _described(tokens),
            "changed_on_resuming": getattr(data, "changed", {}),
            "outlier_severity": statistics and statistics.outlier_severity,
            "config": self._config,
        }

    def _write_config(self, folder: Path) -> None:
        text = self._text if self._config == self._typed else yaml.safe_dump(self._config, sort_keys=False)
        with replacing(folder / self.config_filename) as temporary:
            temporary.write_text(text, encoding="utf-8")

    @cached_property
    def _text(self) -> str:
        return self.parser.dump(self.config, skip_none=False)

    @cached_property
    def _typed(self) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load(self._text)
        return config

    @cached_property
    def _config(self) -> dict[str, Any]:
        """What may be written."""
        config: dict[str, Any] = redacted(self._typed)
        return config


def warn_of_secrets(config: dict[str, Any]) -> None:
    """Warn, in one line, of the options of a configuration that hold a secret; the secret is not told."""
    if named := options_with_secrets(config):
        rank_zero_warn(
            f"{', '.join(named)}: give secrets by the environment (HF_TOKEN and the like); they are in no file of the "
            "run, so that it is not made again without them.",
            stacklevel=1,
        )


def _described(tokens: "TokenStore") -> dict[str, Any]:
    """What tells the tokens of a run from others: their key, how many they are, and what is in them."""
    sizes = {"train": tokens.train.size, "held_out": tokens.held_out.size}
    return {"key": tokens.key, **sizes, "sha256": tokens.digests}


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by path, without the `init_args` in it."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, prefix if key == "init_args" else f"{prefix}{key}/")
        elif not key.startswith("_"):
            flat[prefix + key] = value if isinstance(value, (bool, int, float)) else str(value)
    return flat


def _histograms(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """Of the log10 density of every member's latents, in the last evaluation."""
    stage = "test" if trainer.state.fn == TrainerFn.TESTING else "val"
    members = {name: member.held_out.log10_density for name, member in _members(pl_module).items()}
    return {log_key(stage, name, "log10_density"): x._asdict() for name, x in members.items() if x is not None}


def _members(pl_module: LightningModule) -> "Mapping[str, Member]":
    return cast("MembersModule", pl_module).members()


def _git_state() -> dict[str, Any] | None:
    """Commit and whether files differ from it; None outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    ).stdout.strip()

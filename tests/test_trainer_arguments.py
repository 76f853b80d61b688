"""Every argument that Lightning documents for its Trainer works here as documented, or is refused with the reason."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

import vsae_lightning as vl
from refusals import Refusal
from vsae_lightning.cli import main

WORKS, REFUSED = "works", "refused"
# Of every argument: a value, what is to hold, and where it is shown, or the reason of the refusal.
ARGUMENTS: dict[str, tuple[str | None, str, str]] = {
    "accelerator": ("cpu", WORKS, "every test"),
    "strategy": ("auto", WORKS, "tests/test_ranks.py: ddp; tests/test_sharded_strategy.py"),
    "devices": ("1", WORKS, "tests/test_ranks.py"),
    "num_nodes": ("1", WORKS, "tests/test_cluster.py"),
    "precision": ("bf16-true", REFUSED, "use bf16-mixed, or 32-true"),
    "logger": ("false", WORKS, "test_runs_without_a_logger_have_folders"),
    "callbacks": (None, WORKS, "test_a_monitor_that_is_logged_is_followed"),
    "fast_dev_run": ("true", WORKS, "test_a_fast_dev_run_writes_nothing"),
    "max_epochs": ("-1", WORKS, "test_plain_options_are_taken"),
    "min_epochs": ("1", WORKS, "test_plain_options_are_taken"),
    "max_steps": ("0", REFUSED, "it must be at least 1"),
    "min_steps": ("2", WORKS, "test_plain_options_are_taken"),
    "max_time": ("00:01:00:00", WORKS, "test_plain_options_are_taken"),
    "limit_train_batches": ("5", WORKS, "test_plain_options_are_taken"),
    "limit_val_batches": ("1", WORKS, "test_plain_options_are_taken"),
    "limit_test_batches": ("1", WORKS, "test_plain_options_are_taken"),
    "limit_predict_batches": ("1", WORKS, "test_plain_options_are_taken"),
    "overfit_batches": ("2", REFUSED, "the stream never repeats"),
    "val_check_interval": ("0", REFUSED, "it must be a number of steps"),
    "check_val_every_n_epoch": ("null", WORKS, "test_plain_options_are_taken"),
    "num_sanity_val_steps": ("1", WORKS, "test_plain_options_are_taken"),
    "log_every_n_steps": ("1", WORKS, "every test"),
    "enable_checkpointing": ("false", WORKS, "test_what_is_turned_off_is_off"),
    "enable_progress_bar": ("false", WORKS, "test_what_is_turned_off_is_off"),
    "enable_model_summary": ("true", WORKS, "test_plain_options_are_taken"),
    "accumulate_grad_batches": ("0", REFUSED, "it must be at least 1"),
    "gradient_clip_val": ("-1", REFUSED, "it must be at least 0"),
    "gradient_clip_algorithm": ("value", WORKS, "test_plain_options_are_taken"),
    "deterministic": ("true", WORKS, "test_plain_options_are_taken"),
    "benchmark": ("false", WORKS, "test_plain_options_are_taken"),
    "inference_mode": ("false", WORKS, "test_plain_options_are_taken"),
    "use_distributed_sampler": ("false", WORKS, "the default here: lanes are shared among ranks"),
    "profiler": ("simple", WORKS, "test_plain_options_are_taken"),
    "detect_anomaly": ("true", WORKS, "test_plain_options_are_taken"),
    "barebones": ("true", REFUSED, "barebones=True"),
    "plugins": (None, WORKS, "Lightning's own; none is needed here"),
    "sync_batchnorm": ("false", WORKS, "test_plain_options_are_taken"),
    "reload_dataloaders_every_n_epochs": ("1", REFUSED, "one pass over a stream"),
    "default_root_dir": ("elsewhere", WORKS, "test_runs_land_in_the_root_that_is_given"),
    "enable_autolog_hparams": ("false", WORKS, "test_plain_options_are_taken"),
    "model_registry": (None, WORKS, "Lightning's own service, which is not asked"),
}
Fit = Callable[..., Path]


@pytest.fixture
def fit(config: Path, desk: Path) -> Fit:
    """Trains four steps with these options; returns the working folder."""
    short = ["--trainer.max_steps", "4", "--trainer.val_check_interval", "2", "--data.validation_tokens", "64"]

    def run(*options: str) -> Path:
        main(["fit", "--config", str(config), *short, "--loss_recovered.max_tokens", "0", *options])
        return desk

    return run


def test_the_table_has_every_argument() -> None:
    assert ARGUMENTS.keys() == inspect.signature(Trainer.__init__).parameters.keys() - {"self"}


@pytest.mark.parametrize("name", [name for name, (_, verdict, _) in ARGUMENTS.items() if verdict == REFUSED])
def test_what_cannot_be_had_is_refused_with_the_reason(name: str, config: Path, refusal: Refusal) -> None:
    value, _, reason = ARGUMENTS[name]
    assert reason in refusal(["fit", "--config", str(config), f"--trainer.{name}", str(value)])


def test_plain_options_are_taken(fit: Fit) -> None:
    plain = {name: value for name, (value, _, where) in ARGUMENTS.items() if where == "test_plain_options_are_taken"}
    folder = fit(*(f"--trainer.{name}={value}" for name, value in plain.items()))
    written = yaml.safe_load((folder / "lightning_logs" / "version_0" / "config.yaml").read_text())["trainer"]
    assert {name: str(written[name]).lower() for name in ("min_steps", "limit_val_batches", "detect_anomaly")} == {
        "min_steps": "2",
        "limit_val_batches": "1",
        "detect_anomaly": "true",
    }
    assert json.loads((folder / "lightning_logs" / "version_0" / "fit.json").read_text())["train/tokens"] == 4 * 64


def test_what_is_turned_off_is_off(fit: Fit, capfd: pytest.CaptureFixture[str]) -> None:
    folder = fit("--trainer.enable_progress_bar", "false", "--trainer.enable_checkpointing", "false")
    assert not (folder / "lightning_logs" / "version_0" / "checkpoints").exists()
    assert (folder / "lightning_logs" / "version_0" / "fit.json").is_file()
    printed = capfd.readouterr()
    assert "it/s" not in printed.out + printed.err
    assert "vsae test" not in printed.out  # for there is nothing to test


def test_a_fast_dev_run_writes_nothing(fit: Fit, capfd: pytest.CaptureFixture[str]) -> None:
    folder = fit("--trainer.fast_dev_run", "true")
    assert [path.name for path in folder.iterdir() if path.name != "cache"] == []
    printed = capfd.readouterr().out
    assert "nothing was written" in printed
    assert "None" not in printed


@pytest.mark.parametrize("logger", ["false", "lightning.pytorch.loggers.CSVLogger"])
def test_runs_without_a_logger_have_folders(logger: str, fit: Fit) -> None:
    """A second run stands beside the first, whose checkpoint stays."""
    options = ["--trainer.logger", logger] + (["--trainer.logger.save_dir", "."] if logger != "false" else [])
    first = fit(*options) / "lightning_logs" / "version_0"
    before = (first / "checkpoints" / "last.ckpt").read_bytes()
    fit(*options, "--seed_everything", "7")
    assert (first / "checkpoints" / "last.ckpt").read_bytes() == before
    second = json.loads((first.parent / "version_1" / "run.json").read_text())
    assert (json.loads((first / "run.json").read_text())["seed"], second["seed"]) == (3, 7)
    assert (first / "metrics.csv").is_file() == (logger != "false")


def test_a_run_without_a_logger_goes_on(fit: Fit) -> None:
    folder = fit("--trainer.logger", "false") / "lightning_logs"
    fit("--trainer.logger", "false", "--trainer.max_steps", "8", "--ckpt_path", "last")
    assert [path.name for path in folder.iterdir()] == ["version_0"]
    checkpoint = torch.load(folder / "version_0" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 8


def test_runs_land_in_the_root_that_is_given(fit: Fit) -> None:
    folder = fit("--trainer.default_root_dir", "elsewhere")
    assert (folder / "elsewhere" / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt").is_file()
    assert not (folder / "lightning_logs").exists()


def test_a_monitor_that_is_logged_is_followed(fit: Fit) -> None:
    early = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/loss"]
    folder = fit(*early, "--trainer.callbacks.patience=1") / "lightning_logs" / "version_0"
    assert (folder / "checkpoints" / "last.ckpt").is_file()


def test_a_monitor_that_is_not_logged_is_refused(config: Path, refusal: Refusal) -> None:
    early = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val_loss"]
    message = refusal(["fit", "--config", str(config), *early])
    assert "EarlyStopping has the monitor 'val_loss', which is not logged. Did you mean val/loss" in message


def test_the_plateau_follows_its_metric(fit: Fit) -> None:
    """A threshold that no loss can beat: the rate is divided by ten at every validation, of which there are two."""
    name = "lightning.pytorch.cli.ReduceLROnPlateau"
    options = {"monitor": "val/loss", "patience": "0", "threshold": "1000.0", "threshold_mode": "abs"}
    folder = fit("--model.scheduler", name, *(f"--model.scheduler.{key}={value}" for key, value in options.items()))
    checkpoint = torch.load(folder / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt", weights_only=True)
    # The first validation sets the best value; the second is no better.
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.0003)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            ["--model.optimizer", "torch.optim.LBFGS", "--model.optimizer.lr", "0.01"],
            "LBFGS evaluates the loss several",
        ),
        (["--model.optimizer", "torch.optim.SparseAdam", "--model.optimizer.lr", "0.01"], "SparseAdam needs sparse"),
        (
            [
                *("--model.scheduler", "torch.optim.lr_scheduler.OneCycleLR", "--model.scheduler.max_lr", "0.01"),
                *("--model.scheduler.total_steps", "5"),
            ],
            "OneCycleLR has total_steps 5, but trainer.max_steps is 12",
        ),
    ],
)
def test_an_optimizer_that_cannot_be_had_is_refused(
    options: list[str], reason: str, config: Path, refusal: Refusal
) -> None:
    assert reason in refusal(["fit", "--config", str(config), *options])


def test_the_last_validation_is_of_the_last_step(fit: Fit) -> None:
    """Three steps, validated every two: fit.json has what a validation of its checkpoint finds."""
    run = fit("--trainer.max_steps", "3") / "lightning_logs" / "version_0"
    main(["validate", str(run)])
    fitted, validated = (json.loads((run / name).read_text()) for name in ("fit.json", "validate.json"))
    assert fitted["val/explained_variance"] == pytest.approx(validated["val/explained_variance"], abs=1e-6)


def test_latents_are_predicted_in_python(config: Path, desk: Path) -> None:
    """By a Trainer with its defaults, without the command line."""
    options = yaml.safe_load(config.read_text())["data"]["init_args"]
    text = vl.TextFiles(**options.pop("text")["init_args"])
    data = vl.ActivationDataModule(text=text, **options)
    module = vl.SAE(d_in=data.d_in, d_sae=96, sparsifier=vl.TopK(4))
    trainer = Trainer(max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(module, data)
    found = trainer.predict(module, data)
    assert found is not None
    first: Any = found[0]
    first = first[""]
    assert first["values"].shape == first["indices"].shape
    assert first["values"].shape[-1] == 4

"""Bad run folders: incomplete, or made by a stranger whose settings name code."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from code_in_files import MARKER, write_module
from refusals import Refusal, Settings, changed
from vsae_lightning.cli import main
from vsae_lightning.trust import untrusted

RUN = "stranger_run"


@pytest.fixture
def copied(run: Path, desk: Path) -> Path:
    """A good run, in a folder of a stranger that Python would import from."""
    shutil.copytree(run, desk / RUN, ignore=shutil.ignore_patterns("events*", "latents"))
    return desk / RUN


Spoil = Callable[[Path], Any]


def config_folder(run: Path) -> None:
    (run / "config.yaml").unlink()
    (run / "config.yaml").mkdir()


FOLDERS: dict[str, tuple[Spoil, str]] = {
    "no config.yaml": (lambda run: (run / "config.yaml").unlink(), "RUN: 'stranger_run/config.yaml' does not exist"),
    "no checkpoint": (lambda run: shutil.rmtree(run / "checkpoints"), "RUN: 'stranger_run' has no checkpoint yet"),
    "checkpoint empty": (
        lambda run: (run / "checkpoints" / "last.ckpt").write_bytes(b""),
        "last.ckpt: not a readable checkpoint",
    ),
    "config.yaml empty": (lambda run: (run / "config.yaml").write_text(""), "config.yaml' is empty"),
    "config.yaml a list": (lambda run: (run / "config.yaml").write_text("- a\n"), "config.yaml' is a list"),
    "config.yaml binary": (lambda run: (run / "config.yaml").write_bytes(b"\xff\xfe"), "is not UTF-8 text"),
    "config.yaml with a Python tag": (
        lambda run: (run / "config.yaml").write_text("model: !!python/object/apply:os.system ['touch executed']\n"),
        "could not determine a constructor",
    ),
    "config.yaml a folder": (config_folder, "config.yaml' is a folder"),
}


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
@pytest.mark.parametrize(("spoil", "expected"), FOLDERS.values(), ids=FOLDERS)
def test_an_incomplete_run_is_refused(
    command: str, spoil: Spoil, expected: str, copied: Path, desk: Path, refusal: Refusal
) -> None:
    spoil(copied)
    assert expected in refusal([command, RUN])
    assert not (desk / MARKER).exists()


MODEL, DATA = "model__init_args__", "data__init_args__"
CALLBACK = "lightning.pytorch.callbacks.LambdaCallback"
STRANGERS: dict[str, Settings] = {
    "model": {"model__class_path": "stranger.Model"},
    "model by its name alone": {"model": "stranger.Model"},
    "model in another file": {"model": "settings.yaml"},
    "model in a file without suffix": {"model": "settings"},
    "data": {"data": {"class_path": "stranger.Data"}},
    "text": {f"{DATA}text": {"class_path": "stranger.Text"}},
    "optimizer": {f"{MODEL}optimizer": {"class_path": "stranger.Optimizer"}},
    "optimizer by its name alone": {f"{MODEL}optimizer": "stranger.Optimizer"},
    "optimizer in another file": {f"{MODEL}optimizer": "settings.yaml"},
    "sparsifier": {f"{MODEL}sparsifier": {"class_path": "stranger.Sparsifier", "init_args": {"k": 6}}},
    "logger": {"trainer__logger": {"class_path": "stranger.Logger"}},
    "one of many loggers": {"trainer__logger": [{"class_path": "stranger.Logger"}]},
    "callback": {"trainer__callbacks": [{"class_path": "stranger.Callback"}]},
    "callback by its name alone": {"trainer__callbacks": ["stranger.Callback"]},
    "function of a callback": {"trainer__callbacks": [{"class_path": CALLBACK, "init_args": {"setup": "os.abort"}}]},
    "strategy": {"trainer__strategy": {"class_path": "stranger.Strategy"}},
    "another config": {"config": "settings.yaml"},
    "os.system": {"model__class_path": "os.system"},
    "a module reached through a package": {"model__class_path": "lightning.pytorch.cli.os.system"},
    "a class that a package imported": {"model__class_path": "lightning.pytorch.cli.Namespace"},
    "a package with a like name": {"model__class_path": "vsae_lightning_evil.SAE"},
    "a class that is none": {"model__class_path": "torch.optim.Adamm"},
    "a member": {"model": {"class_path": "Ensemble", "init_args": {"members": {"path": "stranger.Model"}}}},
    "an option of a member": {
        "model": {
            "class_path": "Ensemble",
            "init_args": {"members": {"path": {"class_path": "SAE", "init_args": {"optimizer": "stranger.Optimizer"}}}},
        }
    },
    "arguments of the text": {f"{DATA}text__init_args__load_args": {"features": {"class_path": "stranger.Features"}}},
}


@pytest.mark.parametrize("changes", STRANGERS.values(), ids=STRANGERS)
def test_code_that_a_run_names_is_refused(
    changes: Settings, copied: Path, desk: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(desk)
    for name in ("settings", "settings.yaml"):
        (copied / name).write_text("class_path: stranger.Model\n")
    monkeypatch.syspath_prepend(str(desk))
    content = yaml.safe_load((copied / "config.yaml").read_text())
    (copied / "config.yaml").write_text(yaml.safe_dump(changed(content, **changes)))
    message = refusal(["test", RUN])
    assert f"RUN: '{RUN}/config.yaml' names '" in message
    assert f"give --config {RUN}/config.yaml --ckpt_path {RUN}/checkpoints/last.ckpt yourself" in message
    assert not (desk / MARKER).exists()


def test_a_good_run_names_nothing_of_elsewhere(copied: Path) -> None:
    assert untrusted(yaml.safe_load((copied / "config.yaml").read_text()), copied) is None


@pytest.mark.parametrize("config", sorted(Path(__file__).parents[2].glob("configs/**/*.yaml")), ids=lambda p: p.stem)
def test_every_config_of_this_repository_is_trusted(config: Path) -> None:
    assert untrusted(yaml.safe_load(config.read_text())) is None


def test_a_user_may_name_a_class_of_their_own(copied: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the very words that the refusal advises."""
    write_module(desk, "own")
    monkeypatch.syspath_prepend(str(desk))
    content = yaml.safe_load((copied / "config.yaml").read_text())
    content["model"]["init_args"]["sparsifier"]["class_path"] = "own.TopK"
    (copied / "config.yaml").write_text(yaml.safe_dump(content))
    main(["test", "--config", f"{RUN}/config.yaml", "--ckpt_path", f"{RUN}/checkpoints/last.ckpt"])
    assert (copied / "test.json").is_file()

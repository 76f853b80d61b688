"""Run folders that a stranger made: nothing that they name is executed, written or removed."""

import hashlib
import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from canary import Log, watching
from code_in_files import MARKER, write_module
from refusals import Refusal, Settings, listing
from vsae_lightning.cli import main

RUN = "stranger_run"
MODEL, DATA = "model__init_args__", "data__init_args__"
POPEN = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", MARKER]}}
HUGGING_FACE = {"class_path": "HuggingFaceText", "init_args": {"path": "json"}}
Alter = Callable[..., Path]
Watched = Callable[[list[str]], tuple[str, Log]]


def text(**options: Any) -> Settings:
    return {f"{DATA}text": {**HUGGING_FACE, "init_args": {**HUGGING_FACE["init_args"], **options}}}  # type: ignore[dict-item]


CODE: dict[str, Settings] = {
    "model": {"model__class_path": "stranger.Model"},
    "model by its name alone": {"model": "stranger.Model"},
    "model in another file": {"model": "settings.yaml"},
    "model in a file without suffix": {"model": "settings"},
    "model as a text of JSON": {"model": json.dumps({"class_path": "stranger.Model"})},
    "data": {"data": {"class_path": "stranger.Data"}},
    "text": {f"{DATA}text": {"class_path": "stranger.Text"}},
    "text by its name alone": {f"{DATA}text": "stranger.Text"},
    "text as a text of YAML": {f"{DATA}text": "{class_path: stranger.Text}"},
    "text in a file called as a class": {f"{DATA}text": "TopK"},
    "text in a list": {f"{DATA}text": ["stranger.Text"]},
    "optimizer": {f"{MODEL}optimizer": {"class_path": "stranger.Optimizer"}},
    "optimizer by its name alone": {f"{MODEL}optimizer": "stranger.Optimizer"},
    "optimizer in another file": {f"{MODEL}optimizer": "settings.yaml"},
    "optimizer a function of ours": {f"{MODEL}optimizer": "vsae_lightning.cli.main"},
    "scheduler a function of a package": {f"{MODEL}scheduler": "lightning.pytorch.utilities.upgrade_checkpoint.main"},
    "sparsifier": {f"{MODEL}sparsifier": {"class_path": "stranger.Sparsifier", "init_args": {"k": 6}}},
    "a sparsifier in a sparsifier": {
        f"{MODEL}sparsifier": {
            "class_path": "Matryoshka",
            "init_args": {"sparsifier": {"class_path": "stranger.Sparsifier", "init_args": {"k": 6}}, "groups": [96]},
        }
    },
    "os.system": {"model__class_path": "os.system"},
    "a module reached through a package": {"model__class_path": "lightning.pytorch.cli.os.system"},
    "a class that a package imported": {"model__class_path": "lightning.pytorch.cli.Namespace"},
    "a package with a like name": {"model__class_path": "vsae_lightning_evil.SAE"},
    "a class that is none": {"model__class_path": "torch.optim.Adamm"},
    "a class of another kind as model": {"model__class_path": "lightning.pytorch.callbacks.LambdaCallback"},
    "a class of another kind as data": {"data__class_path": "vsae_lightning.TopK"},
    "a member": {"model": {"class_path": "Ensemble", "init_args": {"members": {"path": "stranger.Model"}}}},
    "a member as a text of JSON": {
        "model": {"class_path": "Ensemble", "init_args": {"members": {"path": '{"class_path": "stranger.Model"}'}}}
    },
    "members as a text of JSON": {
        "model": {"class_path": "Ensemble", "init_args": {"members": '{"a": {"class_path": "stranger.Model"}}'}}
    },
    "an option of a member": {
        "model": {
            "class_path": "Ensemble",
            "init_args": {"members": {"path": {"class_path": "SAE", "init_args": {"optimizer": "stranger.Optimizer"}}}},
        }
    },
    "further arguments of a class": {"model__dict_kwargs": {"optimizer": "stranger.Optimizer"}},
    "options in another file": {f"{MODEL}sparsifier": {"class_path": "TopK", "init_args": "settings.yaml"}},
    "arguments of the text": text(load_args={"features": POPEN}),
    "arguments of the text as JSON": text(load_args=json.dumps({"features": POPEN})),
    "an argument of the text as JSON": text(load_args={"features": json.dumps(POPEN)}),
    "a class deep in the arguments": text(load_args={"data_files": {"train": [POPEN]}, "features": {"a": [POPEN]}}),
    "a file of the user": text(load_args={"data_files": "home/id_rsa.json"}),
    "a file of the user by its folder": text(load_args={"data_dir": "home"}),
    "an address": text(load_args={"data_files": "http://127.0.0.1:9/a.json"}),
    "an address behind a cache": text(load_args={"data_files": "filecache::http://127.0.0.1:9/a.json"}),
    "storage options": text(load_args={"storage_options": {"key": "a"}}),
    "a folder of the loader": text(load_args={"cache_dir": "victim"}),
    "a file outside a dataset": text(path="owner/name", load_args={"data_files": "../../home/id_rsa.json"}),
    "text files of the user": {
        f"{DATA}text": {"class_path": "TextFiles", "init_args": {"paths": "home/notes.txt", "separator": "\n"}}
    },
}


@pytest.mark.parametrize("changes", CODE.values(), ids=CODE)
def test_what_a_run_names_is_refused(changes: Settings, altered: Alter, desk: Path, watched_refusal: Watched) -> None:
    (desk / "home").mkdir()
    (desk / "home" / "id_rsa.json").write_text('{"text": "secret of the user"}\n' * 100)
    (desk / "home" / "notes.txt").write_text("secret of the user, which is long enough for a context or two\n" * 300)
    altered(**changes)
    message, log = watched_refusal(["test", RUN])
    assert "secret" not in message
    assert "stranger" not in log.imported
    assert not log.started
    assert not log.connected
    assert not (desk / MARKER).exists()


RAW: dict[str, str] = {
    "a date": "2026-01-01",
    "a number": "1.5",
    "a tagged text": "!!str settings.yaml",
    "bytes": "!!binary c2V0dGluZ3MueWFtbA==",
    "a set": "!!set {settings.yaml}",
    "pairs": "!!pairs [class_path: stranger.Text]",
    "an ordered mapping": "!!omap [class_path: stranger.Text]",
    "a tagged date": "!!timestamp 2026-01-01",
    "a key that is merged": "{<<: {class_path: stranger.Text}}",
    "an alias": "*spec",
}


@pytest.mark.parametrize("value", RAW.values(), ids=RAW)
@pytest.mark.parametrize("place", ["text", "sparsifier"])
def test_other_kinds_of_yaml_are_refused(
    place: str, value: str, stranger: Path, desk: Path, watched_refusal: Watched
) -> None:
    content = yaml.safe_load((stranger / "config.yaml").read_text())
    (content["data"] if place == "text" else content["model"])["init_args"][place] = "PLACE"
    written = yaml.safe_dump(content).replace("PLACE", value)
    (stranger / "config.yaml").write_text("data_of_a_stranger: &spec {class_path: stranger.Text}\n" + written)
    _, log = watched_refusal(["test", RUN])
    assert "stranger" not in log.imported
    assert not (desk / MARKER).exists()


def test_the_refusal_says_how_to_trust(altered: Alter, refusal: Refusal) -> None:
    altered(model__init_args__sparsifier={"class_path": "stranger.Sparsifier", "init_args": {"k": 6}})
    message = refusal(["test", RUN])
    assert f"RUN: '{RUN}/config.yaml': model.sparsifier: 'stranger.Sparsifier' is not a class of " in message
    assert "give --trust stranger (in Python: trust=['stranger'])" in message


def test_a_trusted_package_is_imported_and_named(
    altered: Alter, desk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_module(desk, "own")
    run = altered(model__init_args__sparsifier__class_path="own.TopK")
    main(["test", RUN, "--trust", "own"])
    assert (run / "test.json").is_file()
    assert (desk / MARKER).exists()
    assert "trusted: own" in capfd.readouterr().out


def not_acted_on(victim: Path, run: Path) -> Settings:
    """Settings of a training that would execute, write or remove something in an evaluation."""
    exception = {"dirpath": str(run / "checkpoints"), "filename": "last"}
    profiler = {"dirpath": str(victim), "filename": "profile"}
    package = "lightning.pytorch"
    return {
        "trainer__callbacks": [
            {"class_path": f"{package}.callbacks.OnExceptionCheckpoint", "init_args": exception},
            {"class_path": f"{package}.callbacks.EarlyStopping", "init_args": {"monitor": "val/loss"}},
            {"class_path": f"{package}.callbacks.ModelCheckpoint", "init_args": {"dirpath": str(victim)}},
            {"class_path": "stranger.Callback"},
            "stranger.Callback",
        ],
        "trainer__profiler": {"class_path": f"{package}.profilers.SimpleProfiler", "init_args": profiler},
        "trainer__logger": {"class_path": f"{package}.loggers.CSVLogger", "init_args": {"save_dir": str(victim)}},
        "trainer__strategy": {"class_path": "stranger.Strategy"},
        "trainer__plugins": [{"class_path": "stranger.Plugin"}],
        "trainer__accelerator": "settings.yaml",
        "trainer__default_root_dir": str(victim),
        "trainer__devices": 1_000_000,
        "latents": {"folder": str(victim)},
        "config": "settings.yaml",
        "ckpt_path": str(victim / "other.ckpt"),
        f"{DATA}cache_dir": str(victim / "cache"),
    }


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_an_evaluation_takes_model_and_data_alone(
    command: str, altered: Alter, stranger: Path, desk: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    victim = tmp_path_factory.mktemp("victim")
    (victim / "latents-00-000000.safetensors").write_bytes(b"of the user")
    (victim / "index.json").write_text("{}")
    altered(**not_acted_on(victim, stranger))
    checkpoint = hashlib.sha256((stranger / "checkpoints" / "last.ckpt").read_bytes()).hexdigest()
    before = listing(victim)
    with watching() as log:
        main([command, RUN])
    assert listing(victim) == before
    assert hashlib.sha256((stranger / "checkpoints" / "last.ckpt").read_bytes()).hexdigest() == checkpoint
    assert "stranger" not in log.imported
    assert not (desk / MARKER).exists()
    assert [program for program, *_ in log.started if program not in ("git", "cc", "uname")] == []
    assert not log.connected
    outside = {path for path in log.changed() if not path.is_relative_to(desk) and path != Path(os.devnull)}
    assert {path for path in outside if "tmp" not in path.parts and path.parts[1] != "dev"} == set()


def test_the_log_of_a_good_run_sees_what_it_does(stranger: Path, desk: Path) -> None:
    """The canary is alive: it sees what is written and renamed, what is imported, and what is started."""
    with watching() as log:
        main(["test", RUN])
        os.system(f"touch {desk / 'seen'}")
        sys.modules.pop("this", None)
        with redirect_stdout(StringIO()):
            importlib.import_module("this")
    renamed = [Path(source).name for source, *_ in log.named("os.rename") if Path(source).parent == stranger]
    assert any(name.startswith(".test.json.") for name in renamed)
    assert any("touch" in str(command) for command in log.started)
    assert "this" in log.imported


def test_an_evaluation_of_another_run_stays_in_its_folder(stranger: Path, desk: Path) -> None:
    """A link in a stranger's run to the checkpoint of the user's run brings no results into that."""
    shutil.copytree(stranger, desk / "mine")
    (stranger / "checkpoints" / "last.ckpt").unlink()
    (stranger / "checkpoints" / "last.ckpt").symlink_to(desk / "mine" / "checkpoints" / "last.ckpt")
    before = listing(desk / "mine")
    main(["test", RUN])
    assert listing(desk / "mine") == before
    assert (stranger / "test.json").is_file()


@pytest.mark.parametrize("d_sae", [10**12, 10**7])
def test_a_size_that_the_checkpoint_has_not_is_refused(
    d_sae: int, altered: Alter, stranger: Path, refusal: Refusal
) -> None:
    """Config and hyper-parameters agree, so that comparing them finds nothing."""
    path = stranger / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["d_sae"] = d_sae
    torch.save(checkpoint, path)
    altered(model__init_args__d_sae=d_sae)
    assert f"d_sae, d_in are [{d_sae}, 32], but W_dec is [96, 32]" in refusal(["test", RUN])


def test_a_dictionary_larger_than_memory_is_refused(altered: Alter, refusal: Refusal) -> None:
    options = {"d_in": 32, "num_features": 10**12, "mean_active": 3.0}
    altered(data={"class_path": "SyntheticDataModule", "init_args": options})
    assert "num_features is 1000000000000; it must be at most" in refusal(["test", RUN])

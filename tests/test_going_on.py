"""Going on with a run: with the activations that it had, from another folder, and after the reader has left."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from refusals import Refusal, changed
from vsae_lightning.cli import main

OTHER: dict[str, tuple[list[str], str]] = {
    "hook": (["--data.hook_name", "blocks.0.hook_resid_post"], "data.hook_name is 'blocks.0.hook_resid_post', but the"),
    "scaling": (["--data.scale_to", "one"], "data.scale_to is 'one', but the run has 'd_in'"),
    "centring": (["--data.center", "true"], "data.center is True, but the run has False"),
    "BOS": (["--data.prepend_bos", "true"], "data.prepend_bos is True, but the run has False"),
    "context length": (["--data.context_length", "32"], "data.context_length is 32, but the run has 16"),
    "dtype": (["--data.dtype", "bfloat16"], "data.dtype is 'torch.bfloat16', but the run has 'torch.float32'"),
    "text": (["--data.text.held_out_fraction", "0.3"], "data.text is '"),
    "tokens": (["--data.max_tokens", "1000"], "data.max_tokens is 1000, but the run has None"),
}


@pytest.fixture
def finished(run: Path, desk: Path) -> Path:
    shutil.copytree(run, desk / "lightning_logs" / "version_0")
    return desk / "lightning_logs" / "version_0"


def longer(config: Path, run: Path, *options: str) -> list[str]:
    return ["fit", "--config", str(config), "--ckpt_path", str(run), "--trainer.max_steps", "14", *options]


@pytest.mark.parametrize(("options", "expected"), OTHER.values(), ids=OTHER)
def test_other_activations_are_refused_by_name(
    options: list[str], expected: str, config: Path, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "config.yaml").read_text(), (finished / "run.json").read_text()
    with pytest.raises(SystemExit) as exit_:
        main(longer(config, finished, *options))
    assert exit_.value.code == 2
    message = capfd.readouterr().err
    assert expected in message
    assert "or give --resume.allow data." in message
    assert ((finished / "config.yaml").read_text(), (finished / "run.json").read_text()) == before


def test_what_is_allowed_is_changed_and_recorded(
    config: Path, finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And the schedule, which had come to its end, is told to be laid anew."""
    caplog.set_level(logging.INFO)
    hook = ["--data.hook_name", "blocks.0.hook_resid_post", "--resume.allow", "data.hook_name"]
    main(longer(config, finished, *hook))
    assert "The schedule of 12 steps is laid anew over 14, so the rate rises again" in caplog.text
    record = json.loads((finished / "run.json").read_text())
    assert record["changed_on_resuming"] == {"hook_name": ["blocks.1.hook_resid_post", "blocks.0.hook_resid_post"]}


def test_an_option_that_cannot_be_allowed_is_refused(config: Path, finished: Path, refusal: Refusal) -> None:
    message = refusal(longer(config, finished, "--resume.allow", "data.hook"))
    assert "resume.allow: 'hook' is none of data.model_name, data.hook_name" in message
    assert "Did you mean hook_name" in message


@pytest.fixture
def moved(config: Path, tiny_model: Path, corpus: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run started in one folder by relative paths; the working folder is now another."""
    (desk / "project").mkdir()
    shutil.copytree(tiny_model, desk / "models" / "tiny")
    shutil.copy2(corpus, desk / "corpus.txt")
    settings: dict[str, Any] = changed(
        yaml.safe_load(config.read_text()),
        data__init_args__model_name="../models/tiny",
        data__init_args__text__init_args__paths="../corpus.txt",
        trainer__max_steps=2,
    )
    del settings["data"]["init_args"]["cache_dir"]
    (desk / "project" / "run.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(desk / "project")
    main(["fit", "--config", "run.yaml", "--loss_recovered.max_tokens", "0"])
    (desk / "elsewhere" / "deep").mkdir(parents=True)
    monkeypatch.chdir(desk / "elsewhere" / "deep")
    return desk / "project" / "lightning_logs" / "version_0"


@pytest.mark.parametrize("command", [["test"], ["evaluate", "--suite", "geometry"]], ids=["test", "evaluate"])
def test_relative_paths_are_found_from_elsewhere(command: list[str], moved: Path) -> None:
    name, *options = command
    main([name, os.path.relpath(moved), *options])
    assert (moved / "test.json").is_file() or (moved / "evaluation").is_dir()


def test_a_reader_that_leaves_stops_a_run_that_is_saved(config: Path, tmp_path: Path) -> None:
    """As of `vsae fit | head`: nobody reads any more, and there is a checkpoint from which the run goes on."""
    command = [sys.executable, "-m", "vsae_lightning", "fit", "--config", str(config)]
    options = [
        "--trainer.max_steps",
        "100000",
        "--trainer.val_check_interval",
        "100000",
        "--progress.refresh_rate",
        "1",
    ]
    child = subprocess.Popen(
        [*command, *options], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    assert child.stdout is not None
    try:
        _wait_for(lambda: any(tmp_path.glob("lightning_logs/*/run.json")))
        child.stdout.close()
        assert child.wait(timeout=120) == 128 + signal.SIGPIPE
    finally:
        child.kill()
    checkpoint = torch.load(tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt", weights_only=True)
    assert 0 < checkpoint["global_step"] < 100_000


def _wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.1)

"""The README is true: its commands parse, its Python runs, its configs exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vsae_lightning.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
FITS = sorted({line.split("#")[0].strip() for line in SHELL if line.startswith("vsae fit --config")})
ANALYSES = sorted({line.split("#")[0].strip() for line in SHELL if line.startswith("vsae analyze")})


@pytest.mark.parametrize("command", FITS)
def test_fit_commands_parse(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    options = shlex.split(command)[1:]
    if "--ckpt_path" in options:  # needs a run of this config; tests of resuming are in test_runs.py
        at = options.index("--ckpt_path")
        del options[at : at + 2]
    with pytest.raises(SystemExit) as exit_:
        main([*options, "--print_config"])
    assert exit_.value.code == 0
    assert "class_path: vsae_lightning." in capsys.readouterr().out


@pytest.mark.parametrize("command", ANALYSES)
def test_analyze_commands_parse(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*shlex.split(command)[1:], "--print_config"])
    assert exit_.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["run"] == shlex.split(command)[2]
    assert printed["contexts"]["strongest"] == 12


def test_every_command_is_one_that_there_is() -> None:
    used = {line.split()[1] for line in SHELL if line.startswith("vsae ")}
    assert used == set(COMMANDS)


def test_every_make_target_is_one_that_there_is() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {line.split()[1] for line in SHELL if line.startswith("make ")} <= targets


def test_files_it_names_exist() -> None:
    for path in re.findall(r"(?:configs|docs|scripts|vsae_lightning)/[\w./-]+\w", README):
        assert (ROOT / path).exists(), path


def test_its_python_runs(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "lightning_logs").mkdir()
    (tmp_path / "lightning_logs" / "version_0").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"x": torch.randn(9, 32)}
    exec(block, names)
    assert names["latents"].shape == (9, 96)
    assert not names["latents"].requires_grad
    assert names["x_hat"].shape == (9, 32)
    assert (tmp_path / "exported" / "autoencoder.safetensors").exists()
    terms = names["terms"]._asdict()
    assert all(terms[name] is not None for name in ("total", "reconstruction", "kl", "kl_weight", "aux"))

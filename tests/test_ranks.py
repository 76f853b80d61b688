"""The same YAML is the same run on 1, 2 or 4 processes, and goes on on another number of them."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from kills import curves, start, start_ranks, wait
from vsae_lightning.autoencoders.storage import read_checkpoint

STEPS = 100
# Sums in another order; on two cores 3e-7 was reached in weights and curves alike.
WEIGHTS = 1e-5
CURVES = 1e-5
MEMBERS: dict[str, dict[str, Any]] = {
    "sampled": {
        "class_path": "VSAE",
        "init_args": {
            "sparsifier": {"class_path": "TopK", "init_args": {"k": 6}},
            "sigma": "learned",
            "kl_weight": 0.05,
        },
    },
    "batch": {
        "class_path": "SAE",
        "init_args": {"sparsifier": {"class_path": "BatchTopK", "init_args": {"k": 6}}, "gate_kl_weight": 0.01},
    },
    "dead": {  # thresholds so high that latents die, and start anew
        "class_path": "SAE",
        "init_args": {
            "sparsifier": {"class_path": "JumpReLU", "init_args": {"threshold": 1.5}},
            "sparsity_weight": 0.3,
            "resample_every_steps": 40,
        },
    },
}


@pytest.fixture(scope="module")
def ranked(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared config with an ensemble, long enough for AuxK, resampling and several epochs."""
    content = yaml.safe_load(config.read_text())
    optimizer = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001}}
    common: dict[str, Any] = {"d_sae": 96, "dead_after_tokens": 512, "optimizer": optimizer}
    members = {name: {**member, "init_args": {**common, **member["init_args"]}} for name, member in MEMBERS.items()}
    content["model"] = {"class_path": "Ensemble", "init_args": {"members": members}}
    content["trainer"].update(max_steps=STEPS, val_check_interval=25)
    content["checkpoint"] = {"every_n_steps": 30}
    path = tmp_path_factory.mktemp("ranked") / "run.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def alone(ranked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(ranked, tmp_path_factory.mktemp("alone"), 1)


def finished(config: Path, folder: Path, world: int, *options: str) -> Path:
    """The folder of a run that so many processes brought to its end."""
    arguments = ["fit", "--config", str(config), *options]
    children = [start(arguments, folder)] if world == 1 else start_ranks(arguments, folder, world)
    statuses = [wait(child) for child in children]
    assert statuses == [0] * world, (folder / "output.txt").read_text()[-4000:]
    (run,) = (folder / "lightning_logs").iterdir()
    return run


def assert_one_run(run: Path, alone: Path) -> dict[str, float]:
    """Usage, scale and counts are equal, all else to tolerance; the largest differences."""
    one, other = read_checkpoint(alone / "checkpoints/last.ckpt"), read_checkpoint(run / "checkpoints/last.ckpt")
    assert one["global_step"] == other["global_step"] == STEPS
    apart: dict[str, float] = {"weights": 0.0, "curves": 0.0}
    for name, value in one["state_dict"].items():
        if value.dtype == torch.long or "input_" in name:
            assert torch.equal(value, other["state_dict"][name]), name
        else:
            apart["weights"] = max(apart["weights"], float((value - other["state_dict"][name]).abs().max()))
    shown, also_shown = curves(alone), curves(run)
    measured = [tag for tag in shown if tag.startswith(("train/", "val/")) and "per_second" not in tag]
    assert len(measured) > 40
    for tag in measured:
        if "log10_density" in tag or "share" in tag or "dropped" in tag:
            continue
        assert shown[tag].keys() == also_shown[tag].keys(), tag
        for step, value in shown[tag].items():
            difference = abs(value - also_shown[tag][step]) / max(1.0, abs(value))
            apart["curves"] = max(apart["curves"], difference)
    assert apart["weights"] < WEIGHTS
    assert apart["curves"] < CURVES
    return apart


@pytest.mark.parametrize("world", [2, 4])
def test_any_number_of_ranks_is_one_run(ranked: Path, alone: Path, world: int, tmp_path: Path) -> None:
    print(assert_one_run(finished(ranked, tmp_path, world), alone))


def test_a_run_goes_on_on_another_number_of_ranks(ranked: Path, alone: Path, tmp_path: Path) -> None:
    """Two ranks, of which one is asked to stop; then four, which are killed; then one to the end."""
    arguments = ["fit", "--config", str(ranked), "--ckpt_path", "last"]
    children = start_ranks(arguments, tmp_path, 2)
    wait_for_a_checkpoint(tmp_path)
    os.kill(children[1], signal.SIGTERM)
    statuses = [wait(child) for child in children]
    assert statuses == [143, 0], (tmp_path / "output.txt").read_text()[-4000:]  # the first speaks for both
    (run,) = (tmp_path / "lightning_logs").iterdir()
    stopped = read_checkpoint(run / "checkpoints/last.ckpt")["global_step"]
    assert 0 < stopped < STEPS
    children = start_ranks(arguments, tmp_path, 4)
    time.sleep(4)
    for child in children:
        os.kill(child, signal.SIGKILL)
    for child in children:
        wait(child)
    print(assert_one_run(finished(ranked, tmp_path, 1, "--ckpt_path", "last"), alone))


def wait_for_a_checkpoint(folder: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and not list(folder.glob("lightning_logs/*/checkpoints/last.ckpt")):
        time.sleep(0.01)

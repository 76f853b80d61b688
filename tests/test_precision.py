"""Accumulated, mixed-precision and compiled runs are the runs that their documentation says."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vsae_lightning.autoencoders.storage import read_checkpoint
from vsae_lightning.cli import main

NO_AUXK = ["--model.aux_weight", "0"]
OF_BATCHES = ("threshold", "residual_variance", "usage")  # not of steps


def fit(config: Path, folder: Path, *options: str) -> dict[str, Any]:
    """The checkpoint of a run of the shared config, without AuxK, which looks at a batch as a whole."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["fit", "--config", str(config), *NO_AUXK, *options])
    return checkpoint(folder)


def checkpoint(folder: Path) -> dict[str, Any]:
    return read_checkpoint(folder / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt")


def largest_difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Of weights and of the state of the optimizer."""
    apart = 0.0
    for name, value in one["state_dict"].items():
        if not any(word in name for word in OF_BATCHES):
            apart = max(apart, float((value - other["state_dict"][name]).abs().max()))
    states = [content["optimizer_states"][0]["state"] for content in (one, other)]
    for index, state in states[0].items():
        assert state["step"] == states[1][index]["step"]
        apart = max(
            apart, *(float((state[key] - states[1][index][key]).abs().max()) for key in ("exp_avg", "exp_avg_sq"))
        )
    return apart


@pytest.mark.parametrize("sigma", ["0", "0.3", "learned"])
def test_accumulated_batches_are_one_large_batch(config: Path, tmp_path: Path, sigma: str) -> None:
    """Rows, noise, bias, schedule and clipping; a batch does not divide a block, nor a granule of noise a batch."""
    # In float64: in float32 the rounding of the sums alone comes to 3e-5 where Adam divides it by a small moment.
    options = ["--model.sigma", sigma, "--trainer.limit_val_batches", "0", "--trainer.precision", "64-true"]
    small = ["--data.batch_size", "40", "--trainer.accumulate_grad_batches", "4"]
    accumulated = fit(config, tmp_path / "accumulated", *options, *small)
    large = fit(config, tmp_path / "large", *options, "--data.batch_size", "160")
    assert accumulated["global_step"] == large["global_step"] == 12
    assert accumulated["tokens_seen"] == large["tokens_seen"] == 12 * 160
    silent = [content["state_dict"]["usage.tokens_since_fired"] for content in (accumulated, large)]
    assert torch.equal(silent[0] // 160 * 160, silent[1])  # counted in finer steps
    assert largest_difference(accumulated, large) < 1e-12


def test_master_weights_of_mixed_precision_are_float32(config: Path, tmp_path: Path) -> None:
    mixed = fit(config, tmp_path / "mixed", "--trainer.precision", "bf16-mixed")
    full = fit(config, tmp_path / "full")
    floating = [value for value in mixed["state_dict"].values() if value.is_floating_point()]
    assert {value.dtype for value in floating} == {torch.float32}
    states = mixed["optimizer_states"][0]["state"].values()
    assert {value.dtype for state in states for value in state.values()} == {torch.float32}
    W_enc = [content["state_dict"]["autoencoder.W_enc"] for content in (mixed, full)]
    assert not torch.equal(*W_enc)  # bfloat16 was used
    assert not torch.equal(W_enc[0], W_enc[0].bfloat16().float())  # and is not what weights are kept in
    assert float((W_enc[0] - W_enc[1]).norm() / W_enc[1].norm()) < 0.02


def test_a_compiled_run_is_the_uncompiled_one(config: Path, tmp_path: Path) -> None:
    """In a process of its own: what checks the shapes of tensors under test cannot be compiled."""
    command = [sys.executable, "-m", "vsae_lightning", "fit", "--config", str(config), *NO_AUXK]
    (tmp_path / "compiled").mkdir()
    subprocess.run(
        [*command, "--model.torch_compile", "true"],
        cwd=tmp_path / "compiled",
        check=True,
        capture_output=True,
        timeout=300,
    )
    compiled, plain = checkpoint(tmp_path / "compiled"), fit(config, tmp_path / "plain")
    assert compiled["state_dict"].keys() == plain["state_dict"].keys()
    assert largest_difference(compiled, plain) < 1e-5

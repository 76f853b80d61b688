"""The commands on a GPU: the same results as on a CPU, up to rounding, and the same run however it was interrupted."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import vsae_lightning as vl
from kills import differing
from vsae_lightning.autoencoders.storage import read_checkpoint
from vsae_lightning.cli import main

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: nothing else runs there"),
]
ON_GPU = ["--trainer.accelerator", "gpu"]


def fit(config: Path, folder: Path, *options: str) -> Path:
    """The folder of a run of the shared config."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["fit", "--config", str(config), *options])
    return folder / "lightning_logs" / "version_0"


def weights(run: Path) -> torch.Tensor:
    state: dict[str, torch.Tensor] = read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
    return torch.cat([state[f"autoencoder.{name}"].flatten() for name in ("W_enc", "b_enc", "W_dec", "b_dec")])


@pytest.mark.parametrize(("precision", "most"), [("32-true", 1e-3), ("bf16-mixed", 0.02)])
def test_a_run_on_a_gpu_is_that_on_a_cpu(config: Path, tmp_path: Path, precision: str, most: float) -> None:
    """Without sampling, as the noise is another."""
    on_cpu = fit(config, tmp_path / "cpu", "--model.sigma", "0")
    on_gpu = fit(config, tmp_path / "gpu", "--model.sigma", "0", *ON_GPU, "--trainer.precision", precision)
    expected, found = weights(on_cpu), weights(on_gpu)
    assert float((found - expected).norm() / expected.norm()) < most
    metrics = [json.loads((run / "fit.json").read_text()) for run in (on_cpu, on_gpu)]
    assert metrics[1]["val/explained_variance"] == pytest.approx(metrics[0]["val/explained_variance"], abs=10 * most)


def test_a_stopped_run_ends_bit_equal(config: Path, tmp_path: Path) -> None:
    """Of the vSAE that samples, with AuxK; in processes of their own, as determinism is for the whole of one."""
    options = ["--trainer.deterministic", "true", "--trainer.max_steps", "60", "--checkpoint.every_n_steps", "5"]
    command = [sys.executable, "-m", "vsae_lightning", "fit", "--config", str(config), *ON_GPU, *options]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    subprocess.run(command, cwd=whole, check=True)
    with subprocess.Popen(command, cwd=stopped) as child:
        while child.poll() is None and not list(stopped.glob("lightning_logs/*/checkpoints/last.ckpt")):
            time.sleep(0.01)
        child.kill()
    subprocess.run([*command, "--ckpt_path", "last"], cwd=stopped, check=True)
    assert differing(whole / "lightning_logs" / "version_0", stopped / "lightning_logs" / "version_0") == []


def test_an_autoencoder_computes_the_same_on_a_gpu(run: Path) -> None:
    x = 3 * torch.randn(200, 32, generator=torch.Generator().manual_seed(0))
    on_gpu, on_cpu = vl.load(run, device="cuda"), vl.load(run)
    latents = on_gpu.encode(x.cuda())
    assert latents.device.type == "cuda"
    torch.testing.assert_close(latents.cpu(), on_cpu.encode(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(on_gpu(x.cuda()).cpu(), on_cpu(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("suite", ["core", "geometry", "robustness"])
def test_an_evaluation_on_a_gpu_is_that_on_a_cpu(run: Path, tmp_path: Path, suite: str) -> None:
    found: dict[str, dict[str, Any]] = {}
    for device in ("cpu", "cuda"):
        main(["evaluate", str(run), "--suite", suite, "--device", device, "--output", str(tmp_path / device)])
        found[device] = json.loads((tmp_path / device / "version_0_summary.json").read_text())[suite]
    assert found["cuda"] == pytest.approx(found["cpu"], rel=1e-3, abs=1e-4)

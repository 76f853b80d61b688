"""Clusters, as far as one machine goes: SLURM's own environment and signals, and torchrun with two nodes."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kills import differing, free_port, start_ranks, wait, wait_until
from vsae_lightning.autoencoders.storage import read_checkpoint
from vsae_lightning.errors import InputError
from vsae_lightning.slurm import job_id, requeue

ROOT = Path(__file__).parents[1]
TOOLS = Path(__file__).parent / "support" / "slurm"
STEPS = 200


@pytest.fixture(scope="module")
def clustered(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared config, longer."""
    content = yaml.safe_load(config.read_text())
    content["trainer"].update(max_steps=STEPS, val_check_interval=100, log_every_n_steps=20)
    content["checkpoint"] = {"every_n_steps": 40}
    path = tmp_path_factory.mktemp("clustered") / "run.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def two_ranks(clustered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two_ranks")
    assert [wait(child) for child in start_ranks(["fit", "--config", str(clustered)], folder, 2)] == [0, 0]
    return folder / "lightning_logs" / "version_0"


def slurm_environment(folder: Path) -> dict[str, str]:
    """What sbatch gives a job on one node with two tasks, with our own srun and scontrol in its PATH."""
    job = {"JOB_ID": "4711", "JOB_NAME": "vsae", "NTASKS": "2", "NTASKS_PER_NODE": "2", "NODELIST": "localhost"}
    job |= {"JOB_NODELIST": "localhost", "NNODES": "1", "JOB_NUM_NODES": "1"}
    return {
        **os.environ,
        **{f"SLURM_{name}": value for name, value in job.items()},
        "PATH": f"{TOOLS}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SCONTROL_LOG": str(folder / "scontrol.log"),
        "OMP_NUM_THREADS": "1",
    }


def submit(clustered: Path, folder: Path) -> "subprocess.Popen[bytes]":
    """Run the example's script as sbatch would, on the CPU."""
    on_cpu = ["--config", "cpu.yaml"]
    (folder / "cpu.yaml").write_text("trainer: {accelerator: cpu}\n")
    (folder / "configs" / "trainer").mkdir(parents=True, exist_ok=True)
    layer = yaml.safe_load((ROOT / "configs" / "trainer" / "slurm.yaml").read_text())
    assert layer["trainer"].pop("accelerator") == "gpu"
    (folder / "configs" / "trainer" / "slurm.yaml").write_text(yaml.safe_dump(layer))
    script = ["bash", str(ROOT / "examples" / "slurm" / "train.sbatch"), "--config", str(clustered), *on_cpu]
    with (folder / "job.log").open("ab") as log:
        return subprocess.Popen(script, cwd=folder, env=slurm_environment(folder), stdout=log, stderr=log)


def test_a_preempted_job_is_requeued_and_goes_on(clustered: Path, two_ranks: Path, tmp_path: Path) -> None:
    """The job's steps get SIGUSR1 ahead of its end; the same script, run again by SLURM, ends bit-equal."""
    job = submit(clustered, tmp_path)
    run = tmp_path / "lightning_logs" / "slurm_4711"
    wait_until((run / "checkpoints" / "last.ckpt").exists, seconds=120)
    (step,) = subprocess.run(
        ["pgrep", "-P", str(job.pid), "-f", "srun"], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(step), signal.SIGUSR1)
    assert job.wait(timeout=120) != 0
    said = (tmp_path / "job.log").read_text(errors="replace")
    assert "SLURM: requeued as job 4711" in said, said[-3000:]
    assert (tmp_path / "scontrol.log").read_text().split() == ["requeue", "4711"]  # once, not by every task
    stopped = read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"]
    assert 40 <= stopped < STEPS
    assert submit(clustered, tmp_path).wait(timeout=240) == 0, (tmp_path / "job.log").read_text(errors="replace")[
        -3000:
    ]
    assert [folder.name for folder in (tmp_path / "lightning_logs").iterdir()] == ["slurm_4711"]
    assert differing(run, two_ranks) == []


def test_two_nodes_of_torchrun_are_one_run(clustered: Path, two_ranks: Path, tmp_path: Path) -> None:
    """Two agents that meet on the loopback, each with one process."""
    options = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{free_port()}", "--rdzv-id", "test"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", *options]
    command += ["-m", "vsae_lightning", "fit", "--config", str(clustered)]
    command += ["--config", str(ROOT / "configs" / "trainer" / "ddp.yaml"), "--trainer.accelerator", "cpu"]
    command += ["--trainer.num_nodes", "2", "--trainer.devices", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with (tmp_path / "output.txt").open("wb") as output:
        nodes = [
            subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=output) for _ in range(2)
        ]
        statuses = [node.wait(timeout=240) for node in nodes]
    assert statuses == [0, 0], (tmp_path / "output.txt").read_text(errors="replace")[-3000:]
    (run,) = (tmp_path / "lightning_logs").iterdir()
    assert differing(run, two_ranks) == []


def test_the_script_is_valid_shell_and_asks_for_what_it_needs() -> None:
    script = ROOT / "examples" / "slurm" / "train.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    asked = {line.split()[1] for line in script.read_text().splitlines() if line.startswith("#SBATCH")}
    assert {"--requeue", "--open-mode=append", "--signal=SIGUSR1@90", "--nodes=2", "--ntasks-per-node=4"} <= asked
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(script)], check=True)


def test_the_number_of_a_job_is_that_of_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    assert job_id() is None
    assert requeue() == "not requeued: this is no SLURM job"
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert job_id() == "12"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "10")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert job_id() == "10_3"
    monkeypatch.setenv("PATH", str(TOOLS.parent))
    assert requeue() == "not requeued: scontrol requeue 10_3 is not to be had here"
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3; rm -rf .")
    with pytest.raises(InputError, match="must be the number of a job"):
        job_id()

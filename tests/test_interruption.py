"""A run that is killed at any moment ends as one that was not; the long form is `make soak`."""

import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
import yaml

from kills import corrupt_files, differing, finish_despite, output, resize, small_disk, start, wait, wait_until
from vsae_lightning.autoencoders.storage import read_checkpoint

STEPS = 60


@pytest.fixture(scope="module")
def interrupted(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared config, longer, with its token cache in the folder of the run."""
    content = yaml.safe_load(config.read_text())
    content["trainer"].update(max_steps=STEPS, val_check_interval=20, log_every_n_steps=5)
    content["data"]["init_args"]["cache_dir"] = "cache"
    content["checkpoint"] = {"every_n_steps": 10}
    path = tmp_path_factory.mktemp("interrupted") / "run.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def whole(interrupted: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run that nothing happened to, and the seconds that it took."""
    folder = tmp_path_factory.mktemp("whole")
    began = time.monotonic()
    assert wait(start(["fit", "--config", str(interrupted)], folder)) == 0
    return folder / "lightning_logs" / "version_0", time.monotonic() - began


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_run_killed_at_random_moments_ends_bit_equal(
    name: str, interrupted: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    number, (run, seconds) = signal.Signals[name], whole
    toll = finish_despite(number, ["fit", "--config", str(interrupted)], tmp_path, seconds, 3, random.Random(name))
    assert toll.kills >= 1
    assert toll.corrupt == []
    assert set(toll.statuses) <= ({-9} if name == "SIGKILL" else {-number, 128 + number})
    assert differing(run, sorted((tmp_path / "lightning_logs").glob("*/fit.json"))[-1].parent) == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_saves_first_and_says_how_to_go_on(
    name: str, interrupted: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    number = signal.Signals[name]
    arguments = ["fit", "--config", str(interrupted), "--checkpoint.every_n_steps", "1000"]
    child = start(arguments, tmp_path)
    wait_until(lambda: "loss=" in output(tmp_path))
    os.kill(child, number)
    assert wait(child) == 128 + number
    said = output(tmp_path)
    assert f"vsae: {name}: stopping after this step" in said
    assert f"vsae: stopped by {name} at step " in said
    assert "saved; go on with the same command and --ckpt_path last" in said
    assert "Traceback" not in said
    assert wait(start([*arguments, "--ckpt_path", "last"], tmp_path)) == 0
    assert differing(whole[0], tmp_path / "lightning_logs" / "version_0") == []


def test_a_stop_within_a_step_waits_for_its_end(interrupted: Path, tmp_path: Path) -> None:
    """Of four batches to a step, the language model runs before some that are not the first."""
    arguments = ["fit", "--config", str(interrupted), "--trainer.accumulate_grad_batches", "4"]
    arguments += ["--data.batch_size", "96", "--checkpoint.every_n_steps", "5", "--trainer.limit_val_batches", "0"]
    folders = [tmp_path / name for name in ("whole", "stopped")]
    for folder in folders:
        folder.mkdir()
    assert wait(start(arguments, folders[0])) == 0
    child = start(arguments, folders[1])
    run = folders[1] / "lightning_logs" / "version_0"
    wait_until((run / "checkpoints" / "last.ckpt").exists)
    time.sleep(0.1)
    os.kill(child, signal.SIGTERM)
    assert wait(child) == 128 + signal.SIGTERM
    (step,) = re.findall(r"stopped by SIGTERM at step (\d+): saved", output(folders[1]))
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == int(step)
    assert wait(start([*arguments, "--ckpt_path", "last"], folders[1])) == 0
    assert differing(folders[0] / "lightning_logs" / "version_0", run) == []


@pytest.mark.parametrize("room", ["90k", "130k", "190k"])
def test_a_full_disk_tears_nothing(room: str, interrupted: Path, whole: tuple[Path, float], tmp_path: Path) -> None:
    """Full while tokens, log entries or a checkpoint are written; when there is room again, the run goes on."""
    arguments = ["fit", "--config", str(interrupted), "--ckpt_path", "last"]
    try:
        with small_disk(tmp_path / "disk", room) as folder:
            status = wait(start(arguments, folder))
            said = output(folder)  # what of it there was room for
            assert status == 1, said[-2000:]
            assert "Traceback" not in said
            assert corrupt_files(folder) == []
            resize(folder, "20m")
            assert wait(start(arguments, folder)) == 0, output(folder)[-3000:]
            assert differing(whole[0], sorted((folder / "lightning_logs").glob("*/fit.json"))[-1].parent) == []
    except PermissionError as error:
        pytest.skip(f"no right to mount a small disk: {error}")

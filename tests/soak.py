"""The long form of the tests of interruption: `make soak`, which writes benchmarks/soak_DATE.json.

Thirty kills of each kind at random moments, thirty full disks, and a run of as many steps as the quickstart would take
in two hours, whose memory, files and threads are watched; and files of every kind that a stranger can send, changed at
random and read, for some seconds each. Some thirty minutes on two cores.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml

sys.path.insert(0, str(Path(__file__).parent / "support"))
from fuzzing import fuzz, make_targets
from kills import Toll, corrupt_files, differing, finish_despite, resize, small_disk, start, wait

ROOT = Path(__file__).parents[1]
QUICKSTART_STEPS_IN_TWO_HOURS = 37_000  # 600 steps in 117 s
MODEL: dict[str, Any] = {
    "class_path": "VSAE",
    "init_args": {
        "d_sae": 96,
        "sparsifier": {"class_path": "TopK", "init_args": {"k": 6}},
        "sigma": 0.1,
        "kl_weight": 0.01,
        "dead_after_tokens": 2000,
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.003}},
        "scheduler": {"class_path": "WarmupDecay", "init_args": {"warmup_steps": 5}},
    },
}
LIVE: dict[str, Any] = {
    "model_name": "bundled",
    "hook_name": "blocks.1.hook_resid_post",
    "max_tokens": 50_000,
    "context_length": 32,
    "batch_size": 256,
    "block_sequences": 128,
    "validation_tokens": 2048,
    "cache_dir": "cache",
}
SYNTHETIC = {"d_in": 32, "num_features": 64, "mean_active": 4, "batch_size": 64, "validation_rows": 1024}


def write_config(folder: Path, data: dict[str, Any], kind: str, **trainer: Any) -> Path:
    content = {
        "seed_everything": 1,
        "trainer": {"accelerator": "cpu", **trainer},
        "model": MODEL,
        "data": {"class_path": kind, "init_args": data},
        "checkpoint": {"every_n_steps": 10},
    }
    path = folder / f"{kind}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def kill_often(
    base: Path, arguments: list[str], whole: Path, seconds: float, number: signal.Signals, kills: int
) -> Any:
    """Run after run, each killed until it gets through, until there were so many kills."""
    chance = random.Random(number.name)
    tolls: list[Toll] = []
    unequal: list[str] = []
    while sum(toll.kills for toll in tolls) < kills:
        folder = base / f"{number.name}-{len(tolls)}"
        folder.mkdir()
        toll = finish_despite(number, arguments, folder, seconds, 6, chance)
        tolls.append(toll)
        unequal += differing(whole, finished(folder))
        shutil.rmtree(folder)
    return summary(tolls, unequal)


def fill_often(base: Path, arguments: list[str], whole: Path, fills: int) -> dict[str, Any]:
    """Run on a disk that is full after a random number of bytes; give it room; let it end."""
    used = sum(path.stat().st_size for path in whole.parents[1].rglob("*") if path.is_file())
    chance = random.Random(0)
    tolls: list[Toll] = []
    unequal: list[str] = []
    for index in range(fills):
        with small_disk(base / f"disk-{index}", f"{chance.randint(30, max(60, used // 1024))}k") as folder:
            status = wait(start(arguments, folder))
            toll = Toll(int(status != 0), [status], corrupt_files(folder))
            resize(folder, "50m")
            assert wait(start([*arguments, "--ckpt_path", "last"], folder)) == 0
            toll.corrupt += corrupt_files(folder)
            tolls.append(toll)
            unequal += differing(whole, finished(folder))
    return summary(tolls, unequal)


def summary(tolls: list[Toll], unequal: list[str]) -> dict[str, Any]:
    statuses = [status for toll in tolls for status in toll.statuses]
    return {
        "kills": sum(toll.kills for toll in tolls),
        "finishes": len(tolls),
        "exit_statuses": {str(status): statuses.count(status) for status in sorted(set(statuses))},
        "differences": unequal,
        "corrupt_files": [name for toll in tolls for name in toll.corrupt],
    }


def finished(folder: Path) -> Path:
    """The run in this folder that came to its end."""
    return sorted((folder / "lightning_logs").glob("*/fit.json"))[-1].parent


def watch(folder: Path, arguments: list[str], steps: int) -> dict[str, Any]:
    """Resident memory, open files and threads of a run, sampled twice a second; slopes over its second half."""
    child, samples = start(arguments, folder), []
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        try:
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{child}/status").read_text().splitlines())
            files = len(list(Path(f"/proc/{child}/fd").iterdir()))
            samples.append((time.monotonic(), int(fields["VmRSS"].split()[0]), files, int(fields["Threads"])))
        except (OSError, KeyError):
            pass  # it has just ended
        time.sleep(0.5)
    assert os.waitstatus_to_exitcode(status) == 0
    seconds = samples[-1][0] - samples[0][0]
    settled = samples[len(samples) // 2 : -4]
    times = [sample[0] * steps / seconds / 1000 for sample in settled]
    slopes = [statistics.linear_regression(times, [sample[column] for sample in settled]).slope for column in (1, 2, 3)]
    return {
        "steps": steps,
        "seconds": round(seconds, 1),
        "resident_kib": {"middle": settled[0][1], "end": settled[-1][1]},
        "kib_per_1000_steps": round(slopes[0], 2),
        "files": sorted({sample[2] for sample in settled}),
        "threads": sorted({sample[3] for sample in settled}),
    }


def fuzz_readers(base: Path, run: Path, seconds: float) -> dict[str, Any]:
    """How many changed files of every kind were taken, and how many refused in words; anything else raises."""
    (base / "fuzz").mkdir()
    seed = time.time_ns() % 2**32
    targets = make_targets(base / "fuzz", run)
    return {"seed": seed, **{name: dict(fuzz(target, seed, seconds=seconds)) for name, target in targets.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--steps", type=int, default=QUICKSTART_STEPS_IN_TWO_HOURS)
    parser.add_argument("--fuzz-seconds", type=float, default=20, help="for each kind of file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = Path(tempfile.mkdtemp(prefix="soak-"))
    live = write_config(base, LIVE, "ActivationDataModule", max_steps=80, val_check_interval=20, log_every_n_steps=5)
    arguments, folder = ["fit", "--config", str(live)], base / "whole"
    folder.mkdir()
    began = time.monotonic()
    assert wait(start(arguments, folder)) == 0, (folder / "output.txt").read_text()
    seconds, whole = time.monotonic() - began, finished(folder)
    print(f"a run that nothing happens to: {seconds:.1f} s", flush=True)
    result: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__},
        "config": yaml.safe_load(live.read_text()),
        "interrupted": {},
    }
    result["fuzzed"] = fuzz_readers(base, whole, options.fuzz_seconds)
    print("fuzzed", result["fuzzed"], flush=True)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        result["interrupted"][number.name] = kill_often(base, arguments, whole, seconds, number, options.kills)
        print(number.name, result["interrupted"][number.name], flush=True)
    result["interrupted"]["full disk"] = fill_often(base, arguments, whole, options.kills)
    print("full disk", result["interrupted"]["full disk"], flush=True)
    synthetic = write_config(base, SYNTHETIC, "SyntheticDataModule", max_steps=options.steps, val_check_interval=1000)
    result["watched"] = watch(
        base, ["fit", "--config", str(synthetic), "--checkpoint.every_n_steps", "500"], options.steps
    )
    print("watched", result["watched"], flush=True)
    path = ROOT / "benchmarks" / f"soak_{result['date']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    shutil.rmtree(base)
    print(f"written: {path}")


if __name__ == "__main__":
    main()

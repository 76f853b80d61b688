"""Contestants measured one after another, each in a process of its own, in the interpreter that has it.

Ours run in this interpreter; the peers in that of `make peers`, or the one that PEERS_PYTHON names.
A peer that is not installed is skipped, and the table says so.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.workers.harness import RESULT, Measured, Settings, with_environment

ROOT = Path(__file__).parents[1]
SKIPPED = "skipped: not installed"
TIMEOUT_SECONDS = 3600


@dataclass(frozen=True)
class Contestant:
    """What is measured, and how.

    Args:
        name: As the table calls it.
        worker: The module of `benchmarks.workers` that measures it.
        options: Settings of its own, beside those of all.
        peer: Whether it lives in the peers' environment.
    """

    name: str
    worker: str
    options: Mapping[str, Any] = field(default_factory=dict)
    peer: bool = False


@dataclass(frozen=True)
class Entry:
    """What the rounds of one contestant brought: measurements, or why there are none."""

    contestant: Contestant
    rounds: list[Measured]
    status: str

    def best(self, key: str) -> float | None:
        """The smallest of all rounds: what disturbs a measurement makes it larger."""
        return min((measured[key] for measured in self.rounds), default=None)

    def most(self, key: str) -> float | None:
        return max((measured[key] for measured in self.rounds), default=None)


def contest(contestants: Sequence[Contestant], settings: Settings, inside: bool = False) -> list[Entry]:
    """Every contestant once per round, so that a machine that slows down slows them all.

    Args:
        contestants: In the order in which they take turns.
        settings: Of all of them; `rounds` and `threads` among them.
        inside: Measure ours in this process: for tests, which have no time for so many starts.
    """
    entries = [Entry(contestant, [], "ok") for contestant in contestants]
    for _ in range(settings["rounds"]):
        for place, entry in enumerate(entries):
            if entry.status == "ok":
                entries[place] = _turn(entry, settings, inside)
    return entries


def environments(entries: Sequence[Entry]) -> dict[str, Any]:
    """Threads and versions of ours and of the peers, as their processes reported them."""
    found: dict[str, Any] = {}
    for entry in entries:
        for measured in entry.rounds:
            found["peers" if entry.contestant.peer else "ours"] = measured["environment"]
    return found


def _turn(entry: Entry, settings: Settings, inside: bool) -> Entry:
    contestant = entry.contestant
    own = {**settings, **contestant.options}
    print(f"{contestant.name} ...", end=" ", file=sys.stderr, flush=True)
    if inside and not contestant.peer:
        worker = import_module(f"benchmarks.workers.{contestant.worker}")
        outcome: Measured | str = json.loads(json.dumps(with_environment(worker.measure, own)))
    else:
        outcome = _in_own_process(contestant, own)
    print(outcome if isinstance(outcome, str) else "ok", file=sys.stderr, flush=True)
    if isinstance(outcome, str):
        return Entry(contestant, [], outcome)
    return Entry(contestant, [*entry.rounds, outcome], "ok")


def _in_own_process(contestant: Contestant, settings: Settings) -> Measured | str:
    """What it measured; or in words why it did not."""
    python = peers_python() if contestant.peer else Path(sys.executable)
    if not python.exists():
        return SKIPPED
    try:
        done = _run(python, contestant.worker, settings)
    except subprocess.TimeoutExpired:
        return f"failed: took more than {TIMEOUT_SECONDS} s"
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines and lines[-1].startswith(RESULT):
        return dict(json.loads(lines[-1].removeprefix(RESULT)))
    return _reason(done, contestant.peer)


def _run(python: Path, worker: str, settings: Settings) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(python), "-m", f"benchmarks.workers.{worker}"],
        input=json.dumps(settings),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        cwd=ROOT,
        env={**os.environ, **_environment(settings["threads"])},
        check=False,
    )


def peers_python() -> Path:
    return Path(os.environ.get("PEERS_PYTHON", ROOT / ".venv-peers" / "bin" / "python"))


def _environment(threads: int) -> dict[str, str]:
    return {
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "WANDB_MODE": "disabled",
        "CUDA_VISIBLE_DEVICES": "",
    }


def _reason(done: "subprocess.CompletedProcess[str]", peer: bool) -> str:
    errors = re.findall(r"^(?:\w+\.)*\w*Error\b.*", done.stderr, flags=re.MULTILINE)
    if peer and errors and errors[-1].startswith("ModuleNotFoundError"):
        return SKIPPED
    return f"failed: {errors[-1][:80] if errors else f'exit status {done.returncode}'}"

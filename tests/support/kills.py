"""Runs the command in forked processes that can be killed at any moment, and compares what came of it.

A fork of this process has torch and lightning imported already, so that most of a child's life is the run itself.
"""

import contextlib
import ctypes
import errno
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import STORE_EVERYTHING_SIZE_GUIDANCE, EventAccumulator

import vsae_lightning.training  # noqa: F401, the children shall not import it again
from vsae_lightning.autoencoders.storage import read_checkpoint
from vsae_lightning.cli import main
from vsae_lightning.data.store_folder import read_layout

# What depends on the clock.
UNREPEATABLE = ("tokens_per_second", "language_model_share", "dropped_rows")
# A rank that is done has left the others; at the exit of a real process gloo's threads would abort it, now and then.
STILL_A_RANK = 99


def start(arguments: list[str], folder: Path, environment: dict[str, str] | None = None) -> int:
    """Run the command in `folder`, its output in `output.txt`; the process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.chdir(folder)
        # The tokenizer's own threads did not come along with the fork, and it would wait for them.
        os.environ.update({"TOKENIZERS_PARALLELISM": "false", **(environment or {})})
        output = os.open("output.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))  # not pytest's
        torch.set_num_threads(1)
        main(arguments)
        status = 0
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        if status == 0 and torch.distributed.is_initialized():
            status = STILL_A_RANK
        os._exit(status)


def start_ranks(arguments: list[str], folder: Path, world: int) -> list[int]:
    """Run the command on so many processes, as a launcher would start them; the process ids."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NODE_RANK": "0"}
    distributed = [*arguments, "--trainer.devices", str(world), "--trainer.strategy", "ddp"]
    return [start(distributed, folder, {**common, "LOCAL_RANK": str(rank)}) for rank in range(world)]


def free_port() -> int:
    """A port of the loopback that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait(child: int, timeout: float = 300.0) -> int:
    """The exit status, negative for a signal."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise TimeoutError("the run did not end")


@dataclass
class Toll:
    """What became of a run that was interrupted again and again."""

    kills: int = 0
    statuses: list[int] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)


def finish_despite(
    number: signal.Signals, arguments: list[str], folder: Path, seconds: float, kills: int, chance: random.Random
) -> Toll:
    """Kill the run at random moments until `kills` kills have hit it, typing the same command again; then let it end.

    Args:
        number: The signal.
        arguments: Of the command; `--ckpt_path last` is added.
        folder: Where it runs.
        seconds: What a whole run takes; a kill comes before that.
        kills: How many.
        chance: Of the moments.
    """
    toll = Toll()
    again = [*arguments, "--ckpt_path", "last"]
    while toll.kills < kills:
        child = start(again, folder)
        # The first comes early, so that one at least hits however much faster this run is than the one before.
        time.sleep(chance.uniform(0, seconds if toll.kills else seconds / 2))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)
        status = wait(child)
        toll.corrupt += corrupt_files(folder)
        if status == 0:  # it ended before the signal
            return toll
        toll.kills += 1
        toll.statuses.append(status)
    status = wait(start(again, folder))
    assert status == 0, (folder / "output.txt").read_text()[-3000:]
    toll.corrupt += corrupt_files(folder)
    return toll


def corrupt_files(folder: Path) -> list[str]:
    """Files under their final name that are not whole."""
    corrupt = []
    for path in folder.rglob("*"):
        try:
            if path.name == "last.ckpt":
                read_checkpoint(path)
            elif path.suffix == ".json" and not path.parent.name.startswith("."):
                json.loads(path.read_text())
            elif path.name == "train.bin" and not path.parent.name.startswith("."):
                assert read_layout(path.parent) is not None
        except (ValueError, AssertionError) as error:
            corrupt.append(f"{path}: {error}")
    return corrupt


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Where two checkpoints, or parts of them, are not bit-equal."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if not torch.equal(one, other):
            yield place
    elif isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            if not any(word in str(key) for word in UNREPEATABLE):
                yield from differences(one.get(key), other.get(key), f"{place}/{key}")
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differences(left, right, f"{place}/{index}")
    elif one != other:
        yield f"{place}: {one!r} and {other!r}"


def differing(run: Path, other: Path) -> list[str]:
    """Where two finished runs differ: in the checkpoint, the metrics, or what TensorBoard shows."""
    found = list(
        differences(read_checkpoint(run / "checkpoints/last.ckpt"), read_checkpoint(other / "checkpoints/last.ckpt"))
    )
    metrics = [json.loads((folder / "fit.json").read_text()) for folder in (run, other)]
    one, two = ({key: value for key, value in each.items() if "/" in key} for each in metrics)
    found += [f"fit.json{place}" for place in differences(one, two)]
    return found + [f"TensorBoard{place}" for place in differences(curves(run), curves(other))]


def curves(run: Path) -> dict[str, Any]:
    """Every scalar and histogram by step, as TensorBoard shows it."""
    events = EventAccumulator(str(run), size_guidance=STORE_EVERYTHING_SIZE_GUIDANCE).Reload()
    shown: dict[str, Any] = {}
    for tag in events.Tags()["scalars"]:
        shown[tag] = {event.step: event.value for event in events.Scalars(tag)}
    for tag in events.Tags()["histograms"]:
        shown[tag] = {event.step: list(event.histogram_value.bucket) for event in events.Histograms(tag)}
    return shown


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Return as soon as the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def output(folder: Path) -> str:
    """What runs in this folder have said."""
    path = folder / "output.txt"
    return path.read_text(errors="replace") if path.exists() else ""


def resize(disk: Path, size: str) -> None:
    """Give a `small_disk` another size."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, of so many bytes, at `folder`; needs the rights to mount one.

    Raises:
        PermissionError: There are none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, f"size={size}".encode()):
        number = ctypes.get_errno()
        raise PermissionError(number, errno.errorcode.get(number, "mount failed"))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)

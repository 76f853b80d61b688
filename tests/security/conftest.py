"""A stranger's run folder, on a desk that Python would import from, and the log of what a command does there."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from canary import Log, watching
from code_in_files import write_module
from refusals import Refusal, changed

RUN = "stranger_run"
Watched = Callable[[list[str]], tuple[str, Log]]


@pytest.fixture
def stranger(run: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a good run; beside it lie a module, and files of settings, that would execute code."""
    shutil.copytree(run, desk / RUN, ignore=shutil.ignore_patterns("events*", "latents"))
    write_module(desk)
    for folder in (desk, desk / RUN):
        for name in ("settings", "settings.yaml", "2026-01-01", "1.5", "TopK"):
            (folder / name).write_text("class_path: stranger.Model\n")
    monkeypatch.syspath_prepend(str(desk))
    return desk / RUN


@pytest.fixture
def altered(stranger: Path) -> Callable[..., Path]:
    """Changes settings of the stranger's run; a value is given by its path with `__` between."""

    def alter(**changes: Any) -> Path:
        config = stranger / "config.yaml"
        config.write_text(yaml.safe_dump(changed(yaml.safe_load(config.read_text()), **changes)))
        return stranger

    return alter


@pytest.fixture
def watched_refusal(refusal: Refusal) -> Watched:
    """Runs a bad command; returns the line that it prints, and what Python reports of the meantime."""

    def watch(arguments: list[str]) -> tuple[str, Log]:
        with watching() as log:
            message = refusal(arguments)
        return message, log

    return watch

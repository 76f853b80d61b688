"""Bad run folders: incomplete ones. tests/security has those that a stranger made."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from code_in_files import MARKER
from refusals import Refusal

RUN = "stranger_run"


@pytest.fixture
def copied(run: Path, desk: Path) -> Path:
    """A good run, in a folder of a stranger that Python would import from."""
    shutil.copytree(run, desk / RUN, ignore=shutil.ignore_patterns("events*", "latents"))
    return desk / RUN


Spoil = Callable[[Path], Any]


def config_folder(run: Path) -> None:
    (run / "config.yaml").unlink()
    (run / "config.yaml").mkdir()


FOLDERS: dict[str, tuple[Spoil, str]] = {
    "no config.yaml": (lambda run: (run / "config.yaml").unlink(), "RUN: 'stranger_run/config.yaml' does not exist"),
    "no checkpoint": (lambda run: shutil.rmtree(run / "checkpoints"), "RUN: 'stranger_run' has no checkpoint yet"),
    "checkpoint empty": (
        lambda run: (run / "checkpoints" / "last.ckpt").write_bytes(b""),
        "last.ckpt: not a readable checkpoint",
    ),
    "config.yaml empty": (lambda run: (run / "config.yaml").write_text(""), "config.yaml' is empty"),
    "config.yaml a list": (lambda run: (run / "config.yaml").write_text("- a\n"), "config.yaml' is a list"),
    "config.yaml binary": (lambda run: (run / "config.yaml").write_bytes(b"\xff\xfe"), "is not UTF-8 text"),
    "config.yaml with a Python tag": (
        lambda run: (run / "config.yaml").write_text("model: !!python/object/apply:os.system ['touch executed']\n"),
        "holds a value tagged 'tag:yaml.org,2002:python/object/apply:os.system'",
    ),
    "config.yaml a folder": (config_folder, "config.yaml' is a folder"),
}


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
@pytest.mark.parametrize(("spoil", "expected"), FOLDERS.values(), ids=FOLDERS)
def test_an_incomplete_run_is_refused(
    command: str, spoil: Spoil, expected: str, copied: Path, desk: Path, refusal: Refusal
) -> None:
    spoil(copied)
    assert expected in refusal([command, RUN])
    assert not (desk / MARKER).exists()

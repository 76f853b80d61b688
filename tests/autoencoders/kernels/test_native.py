"""How the C kernels come to be, and what happens where they cannot."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from vsae_lightning.autoencoders.kernels import native, sparse

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache; afterwards the library that there was."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.library.cache_clear()
    yield tmp_path
    native.library.cache_clear()


def test_compiled_once_and_then_found(anew: Path) -> None:
    assert isinstance(native.library(), ctypes.CDLL)
    (compiled,) = (anew / "vsae_lightning" / "kernels").iterdir()
    written = compiled.stat().st_mtime_ns
    native.library.cache_clear()
    assert isinstance(native.library(), ctypes.CDLL)
    assert compiled.stat().st_mtime_ns == written


def test_a_mask_that_lets_others_write_is_no_hindrance(anew: Path) -> None:
    (anew / "vsae_lightning").mkdir()
    (anew / "vsae_lightning").chmod(0o775)  # as the token stores may have left it
    before = os.umask(0)
    try:
        assert isinstance(native.library(), ctypes.CDLL)
    finally:
        os.umask(before)


def test_another_source_is_compiled_anew(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native.library()
    changed = anew / "changed.c"
    changed.write_text(native.SOURCE.read_text() + "\n/* changed */\n")
    monkeypatch.setattr(native, "SOURCE", changed)
    native.library.cache_clear()
    assert isinstance(native.library(), ctypes.CDLL)
    assert len(list((anew / "vsae_lightning" / "kernels").iterdir())) == 2


def test_without_a_compiler_pytorch_computes(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(anew))
    assert native.library() == "[Errno 2] No such file or directory: 'cc'"
    scores = torch.tensor([[1.0, 5.0, 3.0, 4.0]])
    assert set(sparse.topk_indices(scores, 2)[0].tolist()) == {1, 3}


def test_what_does_not_compile_is_said(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = anew / "broken.c"
    broken.write_text("int topk_update(")
    monkeypatch.setattr(native, "SOURCE", broken)
    reason = native.library()
    assert isinstance(reason, str)
    assert reason.startswith("cc failed: ")
    assert [path.name for path in (anew / "vsae_lightning" / "kernels").iterdir()] == []


def test_a_cache_that_cannot_be_written_is_no_hindrance(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (anew / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(anew / "file"))
    assert isinstance(native.library(), ctypes.CDLL)
    assert [path.name for path in anew.iterdir()] == ["file"]


def test_threads_are_those_of_torch() -> None:
    """Two OpenMP libraries in one process would wait for each other."""
    code = (
        "import torch\nfrom vsae_lightning.autoencoders.kernels import sparse\n"
        "sparse.topk_indices(torch.randn(64, 4096), 8)\n"
        "print(len({line.split()[-1] for line in open('/proc/self/maps') if 'gomp' in line}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "1"

"""The compiled kernels are code: what another user could have written, or put in their place, is not loaded."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vsae_lightning.autoencoders.kernels import native, sparse

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
STRANGER = 65534
EVIL = '__attribute__((constructor)) static void run(void) {{ fclose(fopen("{}", "w")); }}\n#include <stdio.h>\n'


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache; afterwards the library that there was."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    native.library.cache_clear()
    yield tmp_path / "cache"
    native.library.cache_clear()


@pytest.fixture
def kernels(cache: Path) -> Path:
    """The folder with one good library in it, which is forgotten."""
    assert isinstance(native.library(), ctypes.CDLL)
    native.library.cache_clear()
    return cache / "vsae_lightning" / "kernels"


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A library that makes the file `executed` beside it when it is loaded."""
    source, built = tmp_path / "evil.c", tmp_path / "evil.so"
    lines = EVIL.format(tmp_path / "executed").splitlines()
    source.write_text("\n".join(lines[::-1]))
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(built)], check=True)
    return built


def works() -> bool:
    native.library.cache_clear()
    scores = torch.tensor([[1.0, 5.0, 3.0, 4.0]])
    return isinstance(native.library(), ctypes.CDLL) and set(sparse.topk_indices(scores, 2)[0].tolist()) == {1, 3}


def put(source: Path, place: Path, mode: int = 0o755) -> None:
    place.unlink(missing_ok=True)
    shutil.copy(source, place)
    place.chmod(mode)


def test_the_evil_library_would_run(evil: Path) -> None:
    ctypes.CDLL(str(evil))
    assert (evil.parent / "executed").exists()


def test_a_good_library_is_loaded_as_it_is(kernels: Path) -> None:
    (library,) = kernels.iterdir()
    before = library.stat()
    assert works()
    assert library.stat().st_mtime_ns == before.st_mtime_ns
    assert before.st_mode & 0o777 == 0o700


def linked(library: Path, evil: Path) -> None:
    library.unlink()
    library.symlink_to(evil)


def of_a_stranger(library: Path, evil: Path) -> None:
    put(evil, library)
    os.chown(library, STRANGER, STRANGER)


def pipe(library: Path, evil: Path) -> None:
    library.unlink()
    os.mkfifo(library)


PLANTED: dict[str, Callable[[Path, Path], None]] = {
    "writable by its group": lambda library, evil: put(evil, library, 0o775),
    "writable by all": lambda library, evil: put(evil, library, 0o777),
    "a link": linked,
    "a pipe": pipe,
    "of another user": of_a_stranger,
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_library_is_compiled_anew(name: str, kernels: Path, evil: Path) -> None:
    if name == "of another user" and os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    (library,) = kernels.iterdir()
    PLANTED[name](library, evil)
    assert works()
    assert library.is_file()
    assert not library.is_symlink()
    assert not (evil.parent / "executed").exists()


@pytest.mark.parametrize("above", [0, 1, 2])
@pytest.mark.parametrize("mode", [0o775, 0o777])
def test_a_folder_that_others_write_to_is_not_used(above: int, mode: int, kernels: Path, evil: Path) -> None:
    (library,) = kernels.iterdir()
    put(evil, library)
    (kernels, *kernels.parents)[above].chmod(mode)
    assert works()
    assert library.read_bytes() == evil.read_bytes()
    assert not (evil.parent / "executed").exists()
    assert [path.name for path in evil.parent.glob("tmp*")] == []


def test_a_folder_of_another_user_is_not_used(kernels: Path, evil: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    (library,) = kernels.iterdir()
    put(evil, library)
    os.chown(kernels.parent, STRANGER, STRANGER)
    assert works()
    assert not (evil.parent / "executed").exists()


def test_own_folders_below_a_sticky_one_are_used(kernels: Path) -> None:
    kernels.parent.parent.chmod(0o1777)
    (library,) = kernels.iterdir()
    before = library.stat().st_ino
    assert works()
    assert library.stat().st_ino == before


def test_without_any_safe_folder_pytorch_computes(kernels: Path, evil: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (library,) = kernels.iterdir()
    put(evil, library)
    kernels.parent.parent.parent.chmod(0o777)  # where temporary files are too
    monkeypatch.setattr("tempfile.tempdir", str(evil.parent))
    native.library.cache_clear()
    assert native.library() == f"others may write to {evil.parent}"
    assert set(sparse.topk_indices(torch.tensor([[1.0, 5.0, 3.0, 4.0]]), 2)[0].tolist()) == {1, 3}
    assert not (evil.parent / "executed").exists()


def test_what_is_loaded_is_what_was_looked_at(kernels: Path, evil: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The race: the file is another one by the time that it is loaded."""
    (library,) = kernels.iterdir()
    fstat = os.fstat

    def look_and_swap(descriptor: int) -> Any:
        status = fstat(descriptor)
        if evil.exists():
            evil.replace(library)
        return status

    monkeypatch.setattr(native.os, "fstat", look_and_swap)
    assert works()
    assert not evil.exists()  # it was put there
    assert not (evil.parent / "executed").exists()


@pytest.mark.parametrize("mask", [0, 0o002, 0o022])
def test_folders_are_made_for_their_user_alone(mask: int, cache: Path) -> None:
    before = os.umask(mask)
    try:
        assert isinstance(native.library(), ctypes.CDLL)
    finally:
        os.umask(before)
    folders = (cache, cache / "vsae_lightning", cache / "vsae_lightning" / "kernels")
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}
    assert len(list(folders[-1].iterdir())) == 1

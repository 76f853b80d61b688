"""Whole files only: everything is written under a temporary name, brought to the disk, then renamed."""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it on success and removed on failure.

    What stands at `path` afterwards is the old or the new content, whole, even where the machine loses its power.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        to_disk(temporary)
        temporary.replace(path)
        to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path, stale: tuple[str, ...] = ()) -> Iterator[Path]:
    """A temporary folder beside `path` for files, which go to `path` on success; removed on failure.

    Where `path` has content already, that stays, but for files of the same names and for `stale` ones: those are
    removed first, so that a loss of power leaves old and new files never side by side.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        for file in temporary.iterdir():
            to_disk(file)
        if path.is_dir() and any(path.iterdir()):
            for name in stale:
                (path / name).unlink(missing_ok=True)
            to_disk(path)
            for file in temporary.iterdir():
                file.replace(path / file.name)
            to_disk(path)
        else:
            temporary.replace(path)
        to_disk(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def replacing_tree(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, which takes its place with all that is below it; removed on failure.

    What stands at `path` is the old tree, whole, or the new one, but for the moment between two renames.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)) for _ in range(2))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            path.replace(old)
        temporary.replace(path)
        to_disk(path.parent)
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def remove_leftovers(path: Path) -> None:
    """Remove what writers of `path` left behind that were killed; there must be none at work."""
    for leftover in path.parent.glob(f".{path.name}.*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def to_disk(path: Path) -> None:
    """Have the content of a file, or the names in a folder, outlive the power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record(path: Path) -> dict[str, Any]:
    """What tells a file from any other: its size in bytes, and its SHA-256."""
    return {"size": path.stat().st_size, "sha256": sha256(path)}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON; a number that is not finite, which JSON cannot say, becomes null."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

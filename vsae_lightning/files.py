"""Whole files only: everything is written under a temporary name, brought to the disk, then renamed.

What a stranger's folder may hold in place of a file, such as a pipe or a link, is refused before it is opened.
"""

import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vsae_lightning.errors import InputError

TEMPORARY = "[a-z0-9_]{8}"  # what mkstemp and mkdtemp put behind a prefix


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

    What stands at `path` is the old tree, whole, or the new one, but for the moment between two renames. Where `path`
    is a link, the link alone is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)) for _ in range(2))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            path.replace(old)
        temporary.replace(path)
        to_disk(path.parent)
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def remove_leftovers(path: Path) -> None:
    """Remove what writers of `path` left behind that were killed; there must be none at work."""
    own = re.compile(re.escape(f".{path.name}.") + TEMPORARY)
    for leftover in list(path.parent.iterdir()) if path.parent.is_dir() else []:
        if own.fullmatch(leftover.name):
            remove(leftover)


def remove(path: Path) -> None:
    """Remove a file, a link but not what it points to, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def require_file(path: Path, max_bytes: int | None = None) -> None:
    """Refuse what would make a reader wait for ever or fill the memory.

    Args:
        path: A file, or a link to one, that a stranger may have put there.
        max_bytes: None for what is read in parts, or mapped.

    Raises:
        InputError: Nothing is there, or a pipe, a device or a folder, or a file that is too large.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: not a regular file, but {_kind(status.st_mode)}; replace it.")
    if max_bytes is not None and status.st_size > max_bytes:
        raise InputError(f"{path}: has more than {max_bytes:,} bytes, too many for such a file.")


def require_no_links(folder: Path, path: Path) -> None:
    """Refuse a path below `folder` that leaves it: by `..`, or by a link at any place below `folder`.

    Raises:
        InputError: The path does.
    """
    if not path.is_relative_to(folder) or ".." in path.relative_to(folder).parts:
        raise InputError(f"{path}: not below {folder}.")
    for part in (path, *path.parents):
        if part == folder:
            return
        if part.is_symlink():
            raise InputError(f"{part}: a link, which could lead out of {folder}; replace it by a folder or a file.")


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


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

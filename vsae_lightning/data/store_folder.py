"""The folder of a token store: its layout, read as a stranger's, and its removal, which removes nothing else."""

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from vsae_lightning.errors import InputError
from vsae_lightning.files import sha256, to_disk

SPLITS = ("train", "held_out")
LAYOUT = "store.json"
FILES = (*(f"{split}.bin" for split in SPLITS), LAYOUT)
DTYPES = ("uint16", "uint32")
MAX_LAYOUT_BYTES = 2**16
BYTES_AT_ONCE = 2**22


class Layout(NamedTuple):
    """What store.json says: rows and SHA-256 of each split, tokens per row, and the type of the ids."""

    rows: dict[str, int]
    context_length: int
    dtype: np.dtype[Any]
    sha256: dict[str, str]
    largest_id: int = 0  # found as the files are read, and not in store.json


def read_layout(folder: Path, context_length: int | None = None, num_ids: int = 2**32) -> Layout | None:
    """The layout of a whole store; None where a file is missing, altered, no regular file, or not as asked for.

    Args:
        folder: The store.
        context_length: Tokens per row that it must have; None: any.
        num_ids: Every token id must be below.
    """
    try:
        layout = _layout(folder)
        sums, largest = {}, 0
        for split in SPLITS:
            sums[split], ids = _checksum(folder, split, layout, num_ids)
            largest = max(largest, ids)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if sums != layout.sha256 or layout.context_length != (context_length or layout.context_length):
        return None
    return layout._replace(largest_id=largest)


def _layout(folder: Path) -> Layout:
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise ValueError("no folder, or a link to one")
    with _open_regular(folder / LAYOUT) as file:
        content = json.loads(file.read(MAX_LAYOUT_BYTES).decode())
    layout = Layout(
        {split: content["rows"][split] for split in SPLITS},
        content["context_length"],
        np.dtype(DTYPES[DTYPES.index(content["dtype"])]),
        {split: content["sha256"][split] for split in SPLITS},
    )
    if any(type(size) is not int or size < 1 for size in (*layout.rows.values(), layout.context_length)):
        raise ValueError("no sizes")
    return layout


def _checksum(folder: Path, split: str, layout: Layout, num_ids: int) -> tuple[str, int]:
    """The SHA-256 of a split, and its largest id; an error where the file has another size, or no token has the id."""
    digest, largest = hashlib.sha256(), 0
    with _open_regular(file_of(folder, split)) as file:
        row_bytes = layout.context_length * layout.dtype.itemsize
        if os.fstat(file.fileno()).st_size != layout.rows[split] * row_bytes:
            raise ValueError("another size")
        while block := file.read(BYTES_AT_ONCE):
            digest.update(block)
            largest = max(largest, int(np.frombuffer(block, layout.dtype).max()))
            if largest >= num_ids:
                raise ValueError("an id that no token has")
    return digest.hexdigest(), largest


def _open_regular(path: Path) -> BinaryIO:
    """A file that is no link, pipe or device: a pipe would be waited for."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError("no regular file")
    return os.fdopen(handle, "rb")


def write_layout(folder: Path, rows: dict[str, int], context_length: int, dtype: np.dtype[Any]) -> Layout:
    """Bring the files of a store to the disk, and then its layout, which makes it one."""
    for split in SPLITS:
        to_disk(file_of(folder, split))
    sums = {split: sha256(file_of(folder, split)) for split in SPLITS}
    content = {"rows": rows, "context_length": context_length, "dtype": dtype.name, "sha256": sums}
    (folder / LAYOUT).write_text(json.dumps(content), encoding="utf-8")
    to_disk(folder / LAYOUT)
    return Layout(rows, context_length, dtype, sums)


def require_store(folder: Path) -> None:
    """Refuse what is no token store, not even a damaged one, and so must not be replaced.

    Raises:
        InputError: A link, a file, or a folder with anything but the files of a store.
    """
    if not _is_store(folder):
        raise InputError(
            f"cache_dir: {str(folder)!r} is no token store, so it is not replaced; move it, or give another cache_dir."
        )


def remove_store(folder: Path) -> None:
    """Remove a store, or a part of one; what is none stays."""
    if _is_store(folder):
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _is_store(folder: Path) -> bool:
    """Whether it is a folder, and no link to one, that holds files of a store only."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return all(entry.name in FILES and not entry.is_dir(follow_symlinks=False) for entry in entries)


def file_of(folder: Path, split: str) -> Path:
    """The file of the tokens of a split."""
    return folder / f"{split}.bin"

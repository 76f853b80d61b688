"""Folders that are replaced as a whole: written aside, renamed, and only then pointed to by a link.

Whenever a process is killed, the link points to a whole folder; what it leaves behind goes with the next one.
"""

import re
import shutil
from pathlib import Path

from vsae_lightning.files import to_disk

WRITING = ".sharded-writing"
OWN_NAME = re.compile(r"sharded-\d+(-\d+)?")


def prepare(link: Path) -> Path:
    """An empty folder to write to, beside `link`."""
    link.parent.mkdir(parents=True, exist_ok=True)
    sweep(link.parent)
    writing = link.parent / WRITING
    writing.mkdir()
    return writing


def publish(writing: Path, name: str, link: Path) -> None:
    """Call the written folder `name` (or `name-1`, ...), let `link` point to it, and drop what it pointed to before."""
    folder, number = link.parent / name, 0
    while folder.exists():
        number += 1
        folder = link.parent / f"{name}-{number}"
    to_disk(writing)
    writing.rename(folder)
    to_disk(link.parent)
    writing.symlink_to(folder.name, target_is_directory=True)
    writing.replace(link)
    to_disk(link.parent)
    sweep(link.parent)


def sweep(parent: Path) -> None:
    """Remove the folders made here that no link beside them points to."""
    linked = {path.resolve() for path in parent.iterdir() if path.is_symlink() and path.name != WRITING}
    for path in list(parent.iterdir()):
        if path.name == WRITING and path.is_symlink():
            path.unlink()
        elif path.name == WRITING or (OWN_NAME.fullmatch(path.name) and path.resolve() not in linked):
            shutil.rmtree(path)

"""Folders that are replaced as a whole: written aside, renamed, and only then pointed to by a link.

Whenever a process is killed, the link points to a whole folder; what it leaves behind goes with the next one.
"""

import os
import re
from pathlib import Path

from vsae_lightning.files import remove, to_disk

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
    """Remove the folders made here that no link beside them points to.

    What is not made here stays: links and files of such names, and what links point to elsewhere.
    """
    linked = {os.path.realpath(path) for path in parent.iterdir() if path.is_symlink() and path.name != WRITING}
    for path in list(parent.iterdir()):
        own = OWN_NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
        if path.name == WRITING or (own and os.path.realpath(path) not in linked):
            remove(path)

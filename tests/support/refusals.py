"""What bad input must do: one line on standard error, exit status 2, and the disk as it was."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

Listing = dict[str, str]
Refusal = Callable[[list[str]], str]
Settings = dict[str, Any]


def listing(folder: Path) -> Listing:
    """Everything under a folder: files by size and hash, links by where they point."""
    return {str(path.relative_to(folder)): _state(path) for path in sorted(folder.rglob("*"))}


def _state(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    if path.is_dir():
        return "folder"
    content = path.read_bytes() if path.stat().st_mode & 0o400 else b"unreadable"
    return f"{len(content)} {hashlib.sha256(content).hexdigest()}"


def changed(settings: Settings, **changes: Any) -> Settings:
    """A copy of nested settings with one value set per change, named by its path with `__` between."""
    copy: Settings = yaml.safe_load(yaml.safe_dump(settings))
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = copy
        for parent in parents:
            place = place[parent]
        place[last] = value
    return copy

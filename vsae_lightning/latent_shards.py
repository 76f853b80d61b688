"""The latents that `vsae predict` writes: shards, and an index that says whose they are and when they are whole.

The index is there before the first shard, not whole, so that what a killed process leaves behind is known to be ours;
it names the shards when all are written. Only what the index stands for is ever removed.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vsae_lightning.errors import InputError
from vsae_lightning.files import TEMPORARY, record, require_file, write_json

INDEX_FILE = "index.json"
MAX_INDEX_BYTES = 20_000_000
SHARD = re.compile(r"latents-\d{2,}-\d{6,}\.safetensors", re.ASCII)
# What a writer that was killed leaves of a shard or of the index.
LEFTOVER = re.compile(rf"\.({SHARD.pattern}|index\.json)\.{TEMPORARY}", re.ASCII)


def shard_name(rank: int, batch: int) -> str:
    return f"latents-{rank:02d}-{batch:06d}.safetensors"


def begin_index(folder: Path) -> None:
    """Mark a folder as one of latents that are being written; its shards can be removed from then on."""
    write_json(folder / INDEX_FILE, {"whole": False, "shards": {}})


def write_index(folder: Path) -> None:
    """Say which shards there are, with the size and the checksum of each; written last."""
    shards = {path.name: record(path) for path in _shards(folder)}
    write_json(folder / INDEX_FILE, {"whole": True, "shards": shards})


def clear_latents(folder: Path) -> None:
    """Remove the shards and then the index of an earlier call; anything else in the folder stays.

    Args:
        folder: One that may not be there.

    Raises:
        InputError: The folder holds files, but no index of ours; or shards that the index does not name.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        whole, named = _read_index(folder)
    except InputError:
        raise _foreign(folder) from None
    shards = [path for path in folder.iterdir() if SHARD.fullmatch(path.name)]
    if any(path.is_symlink() or not path.is_file() or (whole and path.name not in named) for path in shards):
        raise _foreign(folder)
    for path in shards:
        path.unlink()
    for path in list(folder.iterdir()):
        if LEFTOVER.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink()
    (folder / INDEX_FILE).unlink()


def read_latents(folder: str | Path) -> Iterator[dict[str, Tensor]]:
    """The shards of a folder of latents, in order, each as its tensors by name (see `LatentsWriter`).

    Raises:
        InputError: The folder was not written to its end, or a shard is missing or not what was written.
    """
    folder = Path(folder)
    whole, shards = _read_index(folder)
    if not whole:
        raise InputError(f"{folder}: holds no whole latents, for vsae predict did not end; run it again.")
    known = {path.name for path in _shards(folder)}
    for name in shards:
        if name not in known or shards[name] != record(folder / name):
            raise InputError(f"{folder / name}: not what vsae predict wrote; run it again.")
    for name in shards:
        try:
            yield load_file(folder / name)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{folder / name}: not readable ({error}).") from None


def _read_index(folder: Path) -> tuple[bool, dict[str, Any]]:
    """Whether all shards were written, and what each should be; an index without `whole` is an older, whole one."""
    path = folder / INDEX_FILE
    try:
        require_file(path, MAX_INDEX_BYTES)
        content = json.loads(path.read_text(encoding="utf-8"))
        whole, shards = content.get("whole", True), content["shards"]
        if not isinstance(shards, dict) or not isinstance(whole, bool):
            raise TypeError("no shards")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder}: holds no whole latents ({error!r}); run vsae predict again.") from None
    strange = next((name for name in shards if not SHARD.fullmatch(name)), None)
    if strange is not None:
        raise InputError(f"{path}: names {strange!r}, which is not what vsae predict wrote; run it again.")
    return whole, shards


def _shards(folder: Path) -> list[Path]:
    """The regular files of a folder that are named as shards."""
    named = (path for path in folder.iterdir() if SHARD.fullmatch(path.name))
    return sorted(path for path in named if path.is_file() and not path.is_symlink())


def _foreign(folder: Path) -> InputError:
    return InputError(f"latents.folder: {folder} holds files that vsae predict did not write; give another folder.")

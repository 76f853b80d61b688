"""A checkpoint as a folder: one file of slices per rank, one of all else, and an index that says what belongs together.

`shard-RR-of-WW.safetensors` holds the slices of rank RR: of weights, and of the optimizer's state. `rest.ckpt` is the
checkpoint with None in the place of each; `shards.json` has these places, and size and SHA-256 of every file.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from vsae_lightning.autoencoders.torch_files import read_torch_file
from vsae_lightning.errors import InputError
from vsae_lightning.files import require_file, sha256, to_disk

INDEX_FILE = "shards.json"
REST_FILE = "rest.ckpt"
FORMAT = 1
MAX_INDEX_BYTES = 10_000_000

Place = tuple[str | int, ...]


class Sliced(NamedTuple):
    """A tensor of which every file of slices has an equal part.

    Attributes:
        place: The keys that lead to it in the checkpoint.
        shape: Of the whole.
        dim: Along which it is sliced.
    """

    place: Place
    shape: tuple[int, ...]
    dim: int

    @property
    def key(self) -> str:
        """Its name in the files."""
        return "/".join(map(str, self.place))


class FileRecord(NamedTuple):
    """What a file must be like to be whole: its size in bytes and its SHA-256, in hexadecimal."""

    size: int
    sha256: str


class Index(NamedTuple):
    """What `shards.json` says: the number of ranks that wrote, every file, and what is sliced."""

    ranks: int
    files: dict[str, FileRecord]
    tensors: list[Sliced]


def is_sharded(path: Path) -> bool:
    """Whether this is a checkpoint as a folder, or a link to one."""
    return (path / INDEX_FILE).is_file()


def separate(checkpoint: dict[str, Any]) -> tuple[dict[str, Any], dict[Sliced, Tensor]]:
    """A checkpoint without its sharded tensors, and this rank's slices of these.

    What is a DTensor but equal on all ranks becomes an ordinary tensor.
    """
    slices: dict[Sliced, Tensor] = {}
    return _separate(checkpoint, (), slices), slices


def shard_name(rank: int, count: int) -> str:
    return f"shard-{rank:02d}-of-{count:02d}.safetensors"


def write_shard(folder: Path, rank: int, count: int, slices: dict[Sliced, Tensor]) -> FileRecord:
    """Write one rank's slices to disk, and wait until they are there."""
    path = folder / shard_name(rank, count)
    save_file({tensor.key: part.detach().cpu().contiguous() for tensor, part in slices.items()}, path)
    path.chmod(folder.stat().st_mode & 0o666)  # safetensors lets the owner alone read it
    return _written(path)


def write_rest(folder: Path, rest: dict[str, Any], shards: list[FileRecord], tensors: Iterable[Sliced]) -> None:
    """Write what is not sliced and the index of all; the folder is a whole checkpoint then."""
    torch.save(rest, folder / REST_FILE)
    count = len(shards)
    files = {shard_name(rank, count): record for rank, record in enumerate(shards)}
    files[REST_FILE] = _written(folder / REST_FILE)
    index = {
        "format": FORMAT,
        "ranks": count,
        "files": {name: record._asdict() for name, record in files.items()},
        "tensors": [tensor._asdict() for tensor in tensors],
    }
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    to_disk(folder / INDEX_FILE)


def read_index(folder: Path) -> Index:
    """The index of a checkpoint.

    Raises:
        InputError: It is not readable, or names files or places that no checkpoint has.
    """
    require_file(folder / INDEX_FILE, MAX_INDEX_BYTES)
    try:
        content = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise InputError(f"{folder}: format {content['format']!r} of {INDEX_FILE} is not known here.")
        files = {name: FileRecord(**record) for name, record in content["files"].items()}
        tensors = [Sliced(tuple(t["place"]), tuple(t["shape"]), t["dim"]) for t in content["tensors"]]
        index = Index(content["ranks"], files, tensors)
        expected = {REST_FILE, *(shard_name(rank, index.ranks) for rank in range(min(index.ranks, len(files))))}
        whole = all(type(size) is int and size >= 0 for t in tensors for size in t.shape)
        equal = whole and all(t.dim >= 0 and t.shape[t.dim] % index.ranks == 0 for t in tensors)
        # By its name in the files: of two with one name, each would be read, however large.
        named = all(t.place and all(isinstance(key, str | int) for key in t.place) for t in tensors)
        sound = named and index.ranks > 0 and equal and len({t.key for t in tensors}) == len(tensors)
    except InputError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise InputError(f"{folder}: {INDEX_FILE} is not readable ({error!r}); it may be torn.") from None
    if strange := files.keys() ^ expected:
        raise InputError(f"{folder}: {INDEX_FILE} should not name, or fails to name, {', '.join(sorted(strange))}.")
    if not sound:
        raise InputError(f"{folder}: {INDEX_FILE} has slices that are not equal, or a tensor twice.")
    stored = sum(path.stat().st_size for path in map(folder.joinpath, files) if path.is_file())
    if sum(math.prod(t.shape) for t in tensors) > stored:  # a number has a byte or more
        raise InputError(f"{folder}: {INDEX_FILE} has tensors that are larger than its files; it is torn.")
    return index


def verify(folder: Path, files: dict[str, FileRecord]) -> None:
    """Raise `InputError` for the first file that is not, byte for byte, what was written."""
    for name, record in files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise InputError(f"{path}: no such file; the checkpoint is torn.")
        if path.stat().st_size != record.size or sha256(path) != record.sha256:
            raise InputError(f"{path}: not what was written (size or SHA-256 differs); the checkpoint is torn.")


def read_rest(folder: Path) -> dict[str, Any]:
    """A checkpoint with None in the place of what is sliced; executes nothing.

    Raises:
        InputError: It is torn.
    """
    verify(folder, {REST_FILE: read_index(folder).files[REST_FILE]})
    rest = read_torch_file(folder / REST_FILE)
    if not isinstance(rest, dict):
        raise InputError(f"{folder / REST_FILE}: not a checkpoint.")
    return rest


def read_whole(folder: Path) -> dict[str, Any]:
    """The ordinary checkpoint that a sharded one stands for.

    Raises:
        InputError: Any of its files is torn.
    """
    verify(folder, read_index(folder).files)
    return read_part(folder, 0, 1)


def read_part(folder: Path, rank: int, count: int) -> dict[str, Any]:
    """The checkpoint as rank `rank` of `count` has it; of its files of slices only what it needs is read.

    What they hold is not verified here, so that ranks can share that out.

    Raises:
        InputError: The files do not hold what the index says.
    """
    index, checkpoint = read_index(folder), read_rest(folder)
    parts: dict[Sliced, list[Tensor]] = {tensor: [] for tensor in index.tensors}
    for shard in range(index.ranks):
        if shard * count < (rank + 1) * index.ranks and rank * index.ranks < (shard + 1) * count:
            _read_shard(folder / shard_name(shard, index.ranks), shard, rank / count, (rank + 1) / count, index, parts)
    for tensor, pieces in parts.items():
        _fill(folder, checkpoint, tensor.place, torch.cat(pieces, tensor.dim))
    return checkpoint


def _read_shard(
    path: Path, shard: int, start: float, stop: float, index: Index, parts: dict[Sliced, list[Tensor]]
) -> None:
    """Append what one file has of the share from `start` to `stop` (0 to 1) of each tensor."""
    require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            for tensor in index.tensors:
                size = tensor.shape[tensor.dim]
                width = size // index.ranks
                own = tuple(width if dim == tensor.dim else n for dim, n in enumerate(tensor.shape))
                stored = file.get_slice(tensor.key)
                if tuple(stored.get_shape()) != own:
                    raise InputError(f"{path}: {tensor.key} has the shape {stored.get_shape()}, not {list(own)}.")
                first, last = (min(max(round(edge * size) - shard * width, 0), width) for edge in (start, stop))
                part = tuple(slice(first, last) if dim == tensor.dim else slice(None) for dim in range(len(own)))
                parts[tensor].append(stored[part])
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not readable ({error}); the checkpoint is torn.") from None


def _separate(value: Any, place: Place, slices: dict[Sliced, Tensor]) -> Any:
    if isinstance(value, DTensor):
        (placement,) = value.placements
        if not isinstance(placement, Shard):
            return value.to_local().detach()
        slices[Sliced(place, tuple(value.shape), placement.dim)] = value.to_local().detach()
        return None
    if isinstance(value, dict):
        copied = value.copy()  # of the same kind of dictionary
        copied.update({key: _separate(entry, (*place, key), slices) for key, entry in value.items()})
        return copied
    if type(value) in (list, tuple):
        return type(value)(_separate(entry, (*place, i), slices) for i, entry in enumerate(value))
    return value


def _fill(folder: Path, checkpoint: dict[str, Any], place: Place, tensor: Tensor) -> None:
    container: Any = checkpoint
    try:
        for key in place[:-1]:
            container = container[key]
        free = container[place[-1]] is None
    except (KeyError, IndexError, TypeError):
        free = False
    if not free:
        raise InputError(f"{folder}: {INDEX_FILE} has a tensor at {place}, where {REST_FILE} has no room for one.")
    container[place[-1]] = tensor


def _written(path: Path) -> FileRecord:
    to_disk(path)
    return FileRecord(path.stat().st_size, sha256(path))

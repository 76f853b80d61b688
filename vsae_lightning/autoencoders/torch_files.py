"""Files of `torch.save` that a stranger may have made, read so that they run nothing and take no more than their size.

`torch.load(weights_only=True)` runs no code, but what a file stands for can be far larger than the file: compressed
entries, entries that overlap, tensors of stride 0. So the archive is looked through before torch reads it, and what
torch made of it afterwards. Nothing is inflated or allocated before.
"""

import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, UntypedStorage

from vsae_lightning.errors import InputError
from vsae_lightning.files import require_file

ENTRY = re.compile(r"[^/]+/(data\.pkl|version|byteorder|data/\d+|\.\w[\w/]*)")  # the names that torch.save gives
MAX_ENTRIES = 100_000
MAX_PICKLE_BYTES = 8_000_000
MAX_VALUES, MAX_DEPTH, MAX_BITS = 1_000_000, 100, 1_000
MAX_SHARING = 4  # tied weights stand in a state dict under several names, with one storage
DTYPES = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8}
    | {torch.int8, torch.int16, torch.int32, torch.int64}
)
STORAGES = ("Double", "Float", "Half", "BFloat16", "Bool", "Byte", "Char", "Short", "Int", "Long")
# What a pickle may name. torch allows more: sparse, quantized, nested and meta tensors, which take memory unseen.
NAMES = frozenset(
    {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "torch Size"}
    | {"torch device", *(f"torch {kind}Storage" for kind in STORAGES)}
    | {str(dtype).replace(".", " ") for dtype in DTYPES}
)
PLAIN = frozenset({str, float, bool, type(None), torch.device, torch.dtype})


def read_torch_file(path: Path, in_memory: bool = True, kind: str = "checkpoint") -> Any:
    """The content of a file of `torch.save`: dictionaries, lists, plain values, and tensors on the CPU.

    Args:
        path: The file.
        in_memory: False: tensors are read from the file when they are used.
        kind: What the file should be, for the error.

    Raises:
        InputError: It is torn or damaged, names anything else, or would take more memory than the file has bytes.
    """
    require_file(path)
    try:
        stored = _stored_bytes(path)
        # Mapped, a storage cannot reach beyond the file, nor can it grow, whatever its size is said to be.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        tensors = list(_tensors(content))
        shared = sum(tensor.numel() * tensor.itemsize for tensor in tensors) / MAX_SHARING
        if max(shared, sum(storage.nbytes() for storage in _storages(tensors).values())) > stored:
            raise InputError("its tensors are larger than the file")
    except InputError as error:
        raise InputError(f"{path}: not a readable {kind}: {error}.") from None
    except Exception as error:  # garbage makes the unpickler fail in a dozen ways
        raise InputError(f"{path}: not a readable {kind} ({type(error).__name__}); it may be torn.") from None
    if in_memory:
        _take_from_file(tensors)
    return content


def _stored_bytes(path: Path) -> int:
    """The bytes of all tensors in an archive that holds nothing but what `torch.save` writes, as it writes it."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = [entry.orig_filename for entry in entries]
        strange = next((name for name in names if not ENTRY.fullmatch(name)), None)
        if strange is not None:
            raise InputError(f"torch.save writes no entry {strange!r}")
        if len({name.casefold() for name in names}) < len(names) or len({name.split("/")[0] for name in names}) != 1:
            raise InputError("its entries are not those of one torch.save")
        if any(
            entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size for entry in entries
        ):
            raise InputError("an entry is compressed, as torch.save leaves none")
        if len(entries) > MAX_ENTRIES or sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise InputError("its entries are too many, or overlap")
        _require_known_names(archive, f"{names[0].split('/')[0]}/data.pkl")
        damaged = archive.testzip()
    if damaged is not None:
        raise InputError(f"it is damaged: its part {damaged} has another checksum than when written")
    return sum(entry.file_size for entry in entries if "/data/" in entry.filename)


def _require_known_names(archive: zipfile.ZipFile, entry: str) -> None:
    """Refuse a pickle that names functions or classes other than the few of plain tensors; it is not executed."""
    if archive.getinfo(entry).file_size > MAX_PICKLE_BYTES:
        raise InputError(f"it has more than {MAX_PICKLE_BYTES:,} bytes besides its tensors")
    for operation, argument, _ in pickletools.genops(archive.read(entry)):
        if operation.name == "GLOBAL" and argument not in NAMES:
            raise InputError(f"it holds more than plain values and tensors: {str(argument).replace(' ', '.')}")


def _tensors(content: Any) -> Iterator[Tensor]:
    """Every tensor, of a tree of plain values and plain tensors alone, without recursion."""
    waiting, count = [(content, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > MAX_VALUES or depth > MAX_DEPTH:  # whatever refers to itself is deep without end
            raise InputError("it holds too many values, or is nested too deep")
        kind = type(value)
        if kind in (dict, OrderedDict):
            if not all(type(key) is str or _is_number(key) for key in value):
                raise InputError("it has a key that is neither text nor a number")
            waiting += [(entry, depth + 1) for entry in value.values()]
            waiting += [(vars(value), depth + 1)] if kind is OrderedDict and vars(value) else []
        elif kind in (list, tuple, torch.Size):
            waiting += [(entry, depth + 1) for entry in value]
        elif kind in (Tensor, torch.nn.Parameter):
            _require_dense(value)
            yield value
        elif kind not in PLAIN and not _is_number(value):
            raise InputError(f"it holds a value of the kind {kind.__name__}")


def _is_number(value: Any) -> bool:
    return type(value) is int and value.bit_length() <= MAX_BITS  # longer ones cannot even be printed


def _require_dense(tensor: Tensor) -> None:
    """Refuse a tensor with more elements than it has bytes for, or with hooks."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and tensor.dtype in DTYPES
    if not plain or tensor._backward_hooks:
        raise InputError(f"a tensor of it is {tensor.layout}, {tensor.dtype} on {tensor.device}, or has hooks")
    spans = zip(tensor.shape, tensor.stride(), strict=True)
    if tensor.numel() > 1 + sum((size - 1) * stride for size, stride in spans if size):
        raise InputError(f"a tensor of it has the shape {list(tensor.shape)}, but fewer numbers are stored")


@torch.no_grad()
def _take_from_file(tensors: list[Tensor]) -> None:
    """Copy what was mapped, so that nobody needs the file any more; tensors that share a storage share the copy."""
    copies = {key: storage.clone() for key, storage in _storages(tensors).items()}
    for tensor in {id(tensor): tensor for tensor in tensors}.values():  # one may stand at several places
        (key,) = _storages([tensor])
        tensor.set_(copies[key], tensor.storage_offset(), tensor.shape, tensor.stride())


def _storages(tensors: list[Tensor]) -> dict[tuple[int, int], UntypedStorage]:
    """Each once, by where it is in memory."""
    storages = (tensor.untyped_storage() for tensor in tensors)
    return {(storage.data_ptr(), storage.nbytes()): storage for storage in storages}

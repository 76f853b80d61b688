"""The C file beside this one, compiled when it is first needed; whoever has no C compiler goes on without."""

import ctypes
import hashlib
import logging
import os
import platform
import stat
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

SOURCE = Path(__file__).with_name("sparse.c")
# Not linked with libgomp: OpenMP's symbols are then those of the copy that torch has loaded, and so its threads.
COMPILE = ("cc", "-O3", "-march=native", "-fopenmp", "-fPIC", "-c")
LINK = ("cc", "-shared")
logger = logging.getLogger(__name__)


@cache
def library() -> ctypes.CDLL | str:
    """The compiled functions, or why there are none."""
    if sys.platform != "linux":
        return f"it is compiled on Linux, not on {sys.platform}"
    try:
        return _load()
    except subprocess.CalledProcessError as error:
        return f"cc failed: {error.stderr.strip().splitlines()[-1] if error.stderr.strip() else error}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)


def serves(*tensors: Tensor) -> bool:
    """Whether there is a library, and it can compute with these floating-point tensors."""
    fit = all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in tensors)
    return fit and not isinstance(library(), str)


def topk_update(
    scores: Float[Tensor, "rows width"],
    bias: Float[Tensor, " width"] | None,
    first: int,
    magnitude: bool,
    values: Float[Tensor, "rows k"],
    indices: Int[Tensor, "rows k"],
) -> None:
    """Bring the k largest (or largest in magnitude) of every row so far up to date with scores + bias, in place.

    These are of the latents from number `first` on. Indices ascend within a row; of equal scores the first win; NaN is
    the largest.
    """
    rows, width = scores.shape
    assert first + width < 2**31
    failed = _functions().topk_update(
        _address(scores),
        None if bias is None else _address(bias),
        *map(ctypes.c_int64, (rows, first, width, values.shape[-1])),
        ctypes.c_int(magnitude),
        _address(values),
        _address(indices),
    )
    if failed:
        raise MemoryError("the k largest latents: no memory")


def dot_at(
    g: Float[Tensor, "batch d_in"], W_dec: Float[Tensor, "d_sae d_in"], indices: Int[Tensor, "batch k"]
) -> Float[Tensor, "batch k"]:
    """As `reference.dot_at`."""
    products = g.new_empty(indices.shape)
    sizes = (*indices.shape, g.shape[-1])
    _functions().dot_at(
        _address(g), _address(W_dec), _address(indices), *map(ctypes.c_int64, sizes), _address(products)
    )
    return products


def weight_gradient(
    values: Float[Tensor, "batch k"], indices: Int[Tensor, "batch k"], x: Float[Tensor, "batch d_in"], d_sae: int
) -> Float[Tensor, "d_sae d_in"]:
    """As `reference.weight_gradient`."""
    order, starts = indices.new_empty(indices.numel()), indices.new_empty(d_sae + 1)
    entries = _address(indices)
    failed = _functions().order_by_latent(
        entries, *map(ctypes.c_int64, (indices.numel(), d_sae)), _address(order), _address(starts)
    )
    if failed:
        raise IndexError(f"an index is not that of one of {d_sae} latents")
    gradient = x.new_empty(d_sae, x.shape[-1])
    sizes = (indices.shape[-1], x.shape[-1], d_sae)
    addresses = [_address(tensor) for tensor in (values, order, starts, x)]
    _functions().weight_gradient(*addresses, *map(ctypes.c_int64, sizes), _address(gradient))
    return gradient


def _load() -> ctypes.CDLL:
    """The library of the usual folder, or one compiled for this process alone where others could write there."""
    processor = Path("/proc/cpuinfo")
    flags = next((line for line in processor.read_text().splitlines() if line.startswith(("flags", "Features"))), "")
    described = "\n".join([SOURCE.read_text(encoding="utf-8"), *COMPILE, platform.machine(), flags])
    name = f"sparse-{hashlib.sha256(described.encode()).hexdigest()[:16]}.so"
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vsae_lightning" / "kernels"
        return _of_folder(_made(folder), name)
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody has a home
        logger.info("the C kernels are compiled for this process alone: %s", error)
    with tempfile.TemporaryDirectory() as temporary:
        return _of_folder(Path(temporary), name)


def _of_folder(folder: Path, name: str) -> ctypes.CDLL:
    """The library in a folder, compiled if it is not there or not to be trusted."""
    folder = Path(os.path.realpath(folder))  # what is looked at is what is used
    _require_own_folder(folder)
    path = folder / name
    try:
        return _opened(path)
    except OSError:
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            object_file, linked = Path(temporary) / "sparse.o", Path(temporary) / "sparse.so"
            _run(*COMPILE, str(SOURCE), "-o", str(object_file))
            _run(*LINK, str(object_file), "-o", str(linked))
            linked.replace(path)
        return _opened(path)


def _opened(path: Path) -> ctypes.CDLL:
    """Load the very file that is looked at, through its descriptor.

    Raises:
        OSError: Another than this user or root could have written it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not _is_own(status):
            raise OSError(f"others may write to {path}")
        # The descriptor stays open: the loader knows a library by its name, and this name must not come back.
        return ctypes.CDLL(f"/proc/self/fd/{descriptor}")
    except OSError:
        os.close(descriptor)
        raise


def _made(folder: Path) -> Path:
    """A folder, made with its parents as far as they are missing, for this user alone whatever the mask is."""
    for missing in [path for path in (folder, *folder.parents) if not path.exists()][::-1]:
        missing.mkdir(mode=0o700, exist_ok=True)
    return folder


def _require_own_folder(folder: Path) -> None:
    """Raise OSError where another user could put a library into a folder, or another folder in its place."""
    for path in (folder, *folder.parents):
        status = path.lstat()
        # In a sticky folder such as /tmp, others cannot rename what is not theirs, and the next folder is not.
        if not _is_own(status, sticky=path != folder):
            raise OSError(f"others may write to {path}")


def _is_own(status: os.stat_result, sticky: bool = False) -> bool:
    """Whether this user, or root, alone can change it."""
    private = not status.st_mode & 0o022 or (sticky and status.st_mode & stat.S_ISVTX)
    return bool(private) and status.st_uid in (0, os.geteuid())


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=120, umask=0o077)


def _functions() -> ctypes.CDLL:
    functions = library()
    assert isinstance(functions, ctypes.CDLL)
    return functions


def _address(tensor: Tensor) -> ctypes.c_void_p:
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())

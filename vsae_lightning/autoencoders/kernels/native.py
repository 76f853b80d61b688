"""The C file beside this one, compiled when it is first needed; whoever has no C compiler goes on without."""

import ctypes
import hashlib
import os
import platform
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


@cache
def library() -> ctypes.CDLL | str:
    """The compiled functions, or why there are none."""
    if sys.platform != "linux":
        return f"it is compiled on Linux, not on {sys.platform}"
    try:
        return ctypes.CDLL(str(_compiled()))
    except subprocess.CalledProcessError as error:
        return f"cc failed: {error.stderr.strip().splitlines()[-1] if error.stderr.strip() else error}"
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:  # RuntimeError: nobody has a home
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


def _compiled() -> Path:
    """The library for this source, on this kind of processor."""
    processor = Path("/proc/cpuinfo")
    flags = next((line for line in processor.read_text().splitlines() if line.startswith(("flags", "Features"))), "")
    described = [SOURCE.read_text(encoding="utf-8"), *COMPILE, platform.machine(), flags]
    key = hashlib.sha256("\n".join(described).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vsae_lightning" / "kernels"
    path = folder / f"sparse-{key}.so"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # whatever the mask is for other files
    if (status := folder.stat()).st_uid != os.getuid() or status.st_mode & 0o022:
        raise OSError(f"others may write to {folder}")  # and what they write would be executed
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            object_file, linked = Path(temporary) / "sparse.o", Path(temporary) / "sparse.so"
            _run(*COMPILE, str(SOURCE), "-o", str(object_file))
            _run(*LINK, str(object_file), "-o", str(linked))
            linked.replace(path)
    return path


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)


def _functions() -> ctypes.CDLL:
    functions = library()
    assert isinstance(functions, ctypes.CDLL)
    return functions


def _address(tensor: Tensor) -> ctypes.c_void_p:
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())

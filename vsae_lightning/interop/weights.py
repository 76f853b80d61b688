"""Tensors in files of strangers, of which none executes anything or takes more memory than its file."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vsae_lightning.autoencoders.storage import require_weights
from vsae_lightning.autoencoders.torch_files import read_torch_file
from vsae_lightning.errors import InputError
from vsae_lightning.files import require_file


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file.

    Raises:
        InputError: It cannot be read.
    """
    require_file(path)
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error}).") from None
    return tensors


def read_state(path: Path) -> dict[str, Tensor]:
    """All tensors of a state dict written by torch.save, unpickled by torch's restricted unpickler.

    Raises:
        InputError: It cannot be read so, or holds something else than tensors.
    """
    state = read_torch_file(path, kind="state dict")
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise InputError(f"{path}: not a state dict of named tensors.")
    return state


def require_shapes(path: Path, tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse tensors that are not, by name and shape, of those given, are no floating-point numbers, or hold nan.

    Raises:
        InputError: They are not.
    """
    require_weights(path, tensors, {name: torch.empty(shape, device="meta") for name, shape in shapes.items()})


def matrix_shape(path: Path, tensors: dict[str, Tensor], name: str) -> tuple[int, int]:
    """The two sizes of a matrix.

    Raises:
        InputError: There is none of this name, or an empty one.
    """
    if name not in tensors or tensors[name].ndim != 2 or tensors[name].numel() == 0:
        raise InputError(f"{path}: there is no matrix {name!r} in it.")
    rows, columns = tensors[name].shape
    return rows, columns


def require_k(path: Path, k: Any, d_sae: int) -> int:
    """A number of latents, of `d_sae`.

    Raises:
        InputError: It is none.
    """
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= d_sae:
        raise InputError(f"{path}: k is {k!r}; it must be a number from 1 to {d_sae}, the latents that there are.")
    return k

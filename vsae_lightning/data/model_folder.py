"""A language model's folder, looked through before anything is computed: its weights are whole, and are of this model.

Only headers are read. Weights that are pickled are refused, as reading them is the one way in which a folder
without code of its own could execute some.
"""

import json
import re
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

from vsae_lightning.errors import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
OLD_BUFFERS = (".attention.bias", ".masked_bias", ".inv_freq")  # which no model reads any more
IN_A_LAYER = re.compile(r"\.\d+\.")
Shapes = dict[str, tuple[int, ...]]


def require_weights(folder: Path, config: "PretrainedConfig") -> None:
    """Refuse a folder whose weights are missing, torn, or of another model.

    Raises:
        InputError: With the file and, where it is one, the tensor.
    """
    stored = {name: shape for file in _files(folder) for name, shape in _shapes(file).items()}
    expected = _expected(folder, config)
    prefix = next((name.split(".")[0] + "." for name in expected), "")
    # A model saved without its head has names without the prefix.
    stored = {prefix + name if prefix + name in expected else name: shape for name, shape in stored.items()}
    common = stored.keys() & expected.keys()
    if not common:
        raise InputError(f"model_name: {str(folder)!r} has weights of another kind of model than its config.json says.")
    if missing := _missing(stored, expected, prefix):
        raise InputError(f"model_name: the weights of {str(folder)!r} lack {missing}, which would be random numbers.")
    for name in sorted(common):
        if stored[name] != expected[name]:
            raise InputError(
                f"model_name: {str(folder)!r}: the weights of {name} have the shape {list(stored[name])}, but its "
                f"config.json says {list(expected[name])}."
            )


def _missing(stored: Shapes, expected: Shapes, prefix: str) -> str | None:
    """A tensor, of all but the head, that is not there; transformers renames some, and would invent what it lacks."""
    lacking = sorted(name for name in expected.keys() - stored.keys() if name.startswith(prefix))
    foreign = [name for name in stored.keys() - expected.keys() if not name.endswith(OLD_BUFFERS)]
    in_layers = [name for name in lacking if IN_A_LAYER.search(name)]
    if in_layers and not any(IN_A_LAYER.search(name) for name in foreign):
        return in_layers[0]
    outside = [name for name in lacking if name not in in_layers]
    return outside[0] if len(outside) > sum(name.startswith(prefix) for name in foreign) else None


def _files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        return [_part(folder, name) for name in _indexed(folder / INDEX)]
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    instead = f", only {pickled[0]}, which is pickled; convert it with save_pretrained" if pickled else ""
    raise InputError(f"model_name: the weights of {str(folder)!r} cannot be loaded: no {WEIGHTS}{instead}.")


def _indexed(index: Path) -> list[str]:
    """The files that an index names."""
    try:
        return sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"model_name: {str(index)!r} is no index of weights ({type(error).__name__}).") from None


def _part(folder: Path, name: str) -> Path:
    if PurePath(name).name != name or not name.endswith(".safetensors"):
        raise InputError(f"model_name: {str(folder / INDEX)!r} names {name!r}; it may name .safetensors beside it.")
    if not (folder / name).is_file():
        raise InputError(f"model_name: {str(folder / INDEX)!r} names {name!r}, which is not there.")
    return folder / name


def _shapes(file: Path) -> Shapes:
    try:
        with safe_open(file, "pt") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"model_name: the weights {str(file)!r} cannot be loaded: {error}") from None


def _expected(folder: Path, config: "PretrainedConfig") -> Shapes:
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # of whatever a config can say that makes no model
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"model_name: {str(folder)!r} has no usable config: {reason}") from None
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}

"""A language model's folder, looked through before anything is computed: its weights are whole, and are of this model.

Only headers are read. Weights that are pickled are refused, as reading them is the one way in which a folder
without code of its own could execute some.
"""

import json
import re
import stat
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

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
# What transformers itself knows; any other name is that of a kernel, which it would download and execute.
ATTENTION = (None, "eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4")
EXPERTS = (None, "eager", "batched_mm", "grouped_mm")
IMPLEMENTATIONS = {
    f"{prefix}{kind}_implementation{suffix}": known
    for kind, known in (("attn", ATTENTION), ("experts", EXPERTS))
    for prefix in ("", "_")
    for suffix in ("", "_internal")
}
LOADS = ("use_kernels", "kernel_config", "fusion_config", "transformers_weights", "distributed_config")
QUANTIZATIONS = ("quantization_config", "compression_config")
# bitsandbytes only: other methods import kernels or packages as the config says.
QUANTIZERS = ("bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit")
MAX_BYTES = {"config.json": 10_000_000}
MAX_TEXT_BYTES = 200_000_000  # the largest tokenizers have 35 MB
MAX_BUFFER_BYTES = 2**30  # attention masks of old models grow with the square of their positions, and are in no file
TEXTS = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".vocab")
OTHER_WEIGHTS = re.compile(r"shard-\d+-model-\d+-of-\d+\.safetensors")


def require_plain_files(folder: Path) -> None:
    """Refuse a folder with a pipe, a device, a huge text, or files that transformers would load besides the weights.

    Raises:
        InputError: With the file.
    """
    for path in sorted([*folder.iterdir(), *folder.glob("additional_chat_templates/*")]):
        if not path.exists():  # a link to nothing
            continue
        mode, size = path.stat().st_mode, path.stat().st_size
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise InputError(f"model_name: {str(path)!r} is a pipe or a device, not a file of a model.")
        if path.suffix in TEXTS and size > (limit := MAX_BYTES.get(path.name, MAX_TEXT_BYTES)):
            raise InputError(f"model_name: {str(path)!r} has {size:,} bytes, more than the {limit:,} that are read.")
        if path.name == "adapter_config.json":
            raise InputError(f"model_name: {str(folder)!r} has an adapter; merge it into the weights and save those.")
        if OTHER_WEIGHTS.fullmatch(path.name):
            raise InputError(f"model_name: {str(path)!r} is a part of a distributed checkpoint; use save_pretrained.")


def require_harmless_config(config: Any) -> None:
    """Refuse a config.json that makes transformers load a kernel, or weights that were not looked at.

    Raises:
        ValueError: With the key and its value, wherever in the config it stands.
    """
    for key, value in config.items() if isinstance(config, dict) else enumerate(config):
        if key in IMPLEMENTATIONS:
            for name in value.values() if isinstance(value, dict) else [value]:
                if name not in IMPLEMENTATIONS[key]:
                    raise ValueError(f"its {key} is {name!r}, which would load a kernel; remove it")
        elif key in QUANTIZATIONS and value:
            if (method := value.get("quant_method") if isinstance(value, dict) else value) not in QUANTIZERS:
                raise ValueError(f"its {key} is for {method!r}, which may load kernels; save the model unquantized")
        elif key in LOADS and value:
            raise ValueError(f"its {key} is {value!r}, which may load code or other weights; remove it")
        if isinstance(value, (dict, list)):
            require_harmless_config(value)


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
            # As they are loaded later; a config may ask for something else.
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False, attn_implementation="eager")
    except Exception as error:  # of whatever a config can say that makes no model
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"model_name: {str(folder)!r} has no usable config: {reason}") from None
    held = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    if held > MAX_BUFFER_BYTES:
        raise InputError(
            f"model_name: {str(folder)!r} has no usable config: masks of {held:,} bytes; lower max_position_embeddings."
        )
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}

"""A language model's folder, looked through before anything is computed: its weights are whole, and are of this model.

Only headers are read. Weights that are pickled are refused, as reading them is the one way in which a folder
without code of its own could execute some.
"""

import copy
import json
import re
import stat
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from vsae_lightning.data.bridges import empty_model, model_class, nothing_is_run
from vsae_lightning.errors import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
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
    for file in _files(folder):
        _require_whole(file)
    names = _read_names(_empty(folder, config))
    missing, mismatched = _loading_report(folder, config)
    if names <= missing:
        raise InputError(f"model_name: {str(folder)!r} has weights of another kind of model than its config.json says.")
    if lacking := sorted(names & missing):
        raise InputError(
            f"model_name: the weights of {str(folder)!r} lack {lacking[0]}, which would be random numbers."
        )
    for name, stored, expected in mismatched:
        if name in names:
            raise InputError(
                f"model_name: {str(folder)!r}: the weights of {name} have the shape {stored}, but its "
                f"config.json says {expected}."
            )


def _read_names(model: "PreTrainedModel") -> set[str]:
    """The parameters that activations depend on: those of the text part, but for its head."""
    read = {id(parameter) for parameter in model.get_decoder().parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in read}


def _loading_report(
    folder: Path, config: "PretrainedConfig"
) -> tuple[set[str], list[tuple[str, list[int], list[int]]]]:
    """What transformers finds missing, and of another shape, as it would load the weights; none are read.

    Files have names of their own (an older version's, or one tensor for each expert), which only transformers knows.
    """
    from transformers.utils import logging

    config = copy.deepcopy(config)
    for name in QUANTIZATIONS:
        vars(config).pop(name, None)
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # its own report is a table of many lines
    logging.disable_progress_bar()
    try:
        with nothing_is_run():
            _, report = model_class(config).from_pretrained(
                folder,
                config=config,
                device_map="meta",
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                trust_remote_code=False,
                attn_implementation="eager",
            )
    except Exception as error:  # of transformers or safetensors, each with its own
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"model_name: the weights of {str(folder)!r} cannot be loaded: {reason}") from None
    finally:
        logging.set_verbosity(before)
    shapes = [(name, list(stored), list(expected)) for name, stored, expected in report["mismatched_keys"]]
    return set(report["missing_keys"]), sorted(shapes)


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


def _require_whole(file: Path) -> None:
    try:
        with safe_open(file, "pt") as tensors:
            tensors.keys()
    except (OSError, SafetensorError) as error:
        raise InputError(f"model_name: the weights {str(file)!r} cannot be loaded: {error}") from None


def _empty(folder: Path, config: "PretrainedConfig") -> "PreTrainedModel":
    try:
        model = empty_model(config)
    except Exception as error:  # of whatever a config can say that makes no model
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"model_name: {str(folder)!r} has no usable config: {reason}") from None
    held = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    if held > MAX_BUFFER_BYTES:
        raise InputError(
            f"model_name: {str(folder)!r} has no usable config: masks of {held:,} bytes; lower max_position_embeddings."
        )
    return model

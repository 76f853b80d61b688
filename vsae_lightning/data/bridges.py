"""Language models as TransformerLens bridges: the text part alone, and nothing is installed or run by a load."""

import copy
import os
import pkgutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

RUNNERS = ((subprocess.Popen, "__init__"), (os, "system"), (os, "posix_spawn"), (os, "posix_spawnp"))


def load_bridge(
    source: str,
    config: "PretrainedConfig",
    tokenizer: "PreTrainedTokenizerFast",
    dtype: torch.dtype,
    device: torch.device | str,
) -> Any:
    """A bridge with the weights of a folder or of the hub; of a model that reads pictures too, its text part.

    Raises:
        Exception: Whatever TransformerLens, transformers, safetensors or torch raise.
    """
    from transformer_lens.model_bridge import TransformerBridge
    from transformers.utils import logging

    logging.disable_progress_bar()
    with nothing_is_run():
        if config.get_text_config() is not config:
            whole = model_class(config).from_pretrained(
                source, dtype=dtype, trust_remote_code=False, attn_implementation="eager"
            )
            return _bridge(source, text_part(whole).to(device), tokenizer, dtype, device)
        return TransformerBridge.boot_transformers(
            source,
            device=str(device),
            dtype=dtype,
            hf_config_overrides={"auto_map": {}},  # code of the model's own: else transformers asks for leave
        )


def empty_bridge(config: "PretrainedConfig") -> Any:
    """A bridge without weights, on the meta device: its hooks have shapes and no values."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    no_words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a")))
    with nothing_is_run():
        return _bridge("empty/model", text_part(empty_model(config)), no_words, torch.float32, "meta").eval()


def empty_model(config: "PretrainedConfig") -> "PreTrainedModel":
    """A model without weights, as it is loaded later; a config may ask for something else.

    Raises:
        Exception: Of whatever a config can say that makes no model.
    """
    config = copy.deepcopy(config)
    # Experts whose shapes do not depend on which of them are chosen.
    vars(config.get_text_config())["_experts_implementation"] = "batched_mm"
    with torch.device("meta"):
        model: PreTrainedModel = model_class(config).from_config(
            config, trust_remote_code=False, attn_implementation="eager"
        )
    return model


def model_class(config: "PretrainedConfig") -> Any:
    """The class of transformers that loads all of a model."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    pictures = type(config) in AutoModelForImageTextToText._model_mapping
    return AutoModelForImageTextToText if pictures and config.get_text_config() is not config else AutoModelForCausalLM


def text_part(whole: "PreTrainedModel") -> "PreTrainedModel":
    """The language model inside one that reads pictures too; the model itself where there is no class for that."""
    from transformers import AutoModelForCausalLM

    config = whole.config.get_text_config()
    if config is whole.config or type(config) not in AutoModelForCausalLM._model_mapping:
        return whole
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    setattr(model, model.base_model_prefix, whole.get_decoder())
    model.set_output_embeddings(whole.get_output_embeddings())
    return model.eval()


def _bridge(source: str, model: Any, tokenizer: Any, dtype: torch.dtype, device: torch.device | str) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    model.config.architectures = [type(model).__name__]  # by which TransformerLens knows it
    tokenizer = copy.deepcopy(tokenizer)  # the bridge gives it tokens that it lacks
    with _without_processors():
        return TransformerBridge.boot_transformers(
            source, hf_model=model, tokenizer=tokenizer, device=str(device), dtype=dtype
        )


@contextmanager
def _without_processors() -> Iterator[None]:
    """Ask for no library that only pictures need, whose absence would have TransformerLens install it.

    Projections without values may be split, too: only their shapes are wanted.
    """
    owners = {
        "_check_required_libraries": "transformer_lens.model_bridge.architecture_adapter.ArchitectureAdapter",
        "load_modality_processor": "transformer_lens.model_bridge.sources.transformers.source",
        "unreadable_weight_reason": "transformer_lens.utilities.quantization",
    }
    with ExitStack() as patches:
        for name, path in owners.items():
            with suppress(ImportError, AttributeError):  # TransformerLens 3 has fewer
                owner = pkgutil.resolve_name(path)
                patches.enter_context(_replaced(owner, name, lambda *_: None))
        yield


@contextmanager
def nothing_is_run() -> Iterator[None]:
    """Refuse every program that this thread would start: TransformerLens runs `pip install` for some models."""
    thread = threading.get_ident()

    def guarded(run: Any) -> Any:
        def refuse(*arguments: Any, **options: Any) -> Any:
            if threading.get_ident() == thread:
                raise PermissionError("a model's folder is loaded without running any program")
            return run(*arguments, **options)

        return refuse

    with ExitStack() as patches:
        for owner, name in RUNNERS:
            if hasattr(owner, name):  # Windows has no posix_spawn
                patches.enter_context(_replaced(owner, name, guarded(getattr(owner, name))))
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class ShapesOnly(TorchDispatchMode):
    """Answers what tensors without values cannot be asked: two are equal (mixtures of experts), none is padding."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.equal.default:
            return True
        if func is torch.ops.aten._local_scalar_dense.default and args[0].dtype == torch.bool:
            return False
        return func(*args, **(kwargs or {}))

"""What live benchmarks train on: a language model of Pythia-70M's shape with random weights, and random tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

PYTHIA_70M = {"vocab_size": 50304, "num_hidden_layers": 6, "hidden_size": 512, "num_attention_heads": 8}
END = "<|endoftext|>"


def save_model(folder: Path, shape: dict[str, int]) -> None:
    """Weights, config and a tokenizer that is only there because loaders ask for one."""
    vocabulary = {END: 0} | {f"token{number}": number for number in range(1, shape["vocab_size"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=END))
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token=END, eos_token=END).save_pretrained(folder)
    config = GPTNeoXConfig(
        **shape,
        intermediate_size=4 * shape["hidden_size"],
        max_position_embeddings=2048,
        rotary_pct=0.25,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPTNeoXForCausalLM(config).save_pretrained(folder)


def save_tokens(path: Path, sequences: int, context: int, vocab_size: int) -> None:
    rows = np.random.default_rng(0).integers(1, vocab_size, (sequences, context), dtype=np.uint16)
    np.save(path, rows)


def corpus(folder: Path, settings: dict[str, Any], contexts: list[int]) -> dict[int, dict[str, str]]:
    """Model and tokens for each length of context, as settings of the live workers."""
    shape = {name: settings[name] for name in PYTHIA_70M}
    save_model(folder / "model", shape)
    found = {}
    for context in contexts:
        path = folder / f"tokens_{context}.npy"
        save_tokens(path, (settings["passes"] + 2) * settings["buffer"] // context, context, shape["vocab_size"])
        found[context] = {"model": str(folder / "model"), "tokens": str(path)}
    return found

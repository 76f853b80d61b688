"""A random Llama in which one rare token has a massive activation, and text with that token in every third document."""

import random
import shutil
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

SCALE = 4000  # of the embedding of the token
TOKEN = "#"
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "packs", "my", "box", "with"]
SMALL = {"hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}


def massive_model(folder: Path, tokenizer: Path) -> Path:
    """A model folder, with the tokenizer of another."""
    words = AutoTokenizer.from_pretrained(tokenizer)
    config = LlamaConfig(
        **SMALL,
        vocab_size=len(words),
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = LlamaForCausalLM(config)
    (token,) = words(TOKEN)["input_ids"]
    model.model.embed_tokens.weight.data[token] *= SCALE
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder)
    return folder


def text_with_sinks(path: Path) -> Path:
    """200 documents of 30 words; every third has the token once, at a place of its own."""
    chance = random.Random(0)
    documents = [chance.choices(WORDS, k=30) for _ in range(200)]
    for words in documents[::3]:
        words[chance.randrange(30)] += TOKEN
    path.write_text("\n\n".join(map(" ".join, documents)), encoding="utf-8")
    return path

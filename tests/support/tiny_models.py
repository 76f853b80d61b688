"""Random models of three layers, one of each family, with the tokenizer of another."""

import shutil
from pathlib import Path
from typing import Any

import torch
import transformers

IDS = {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    **IDS,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
GEMMA = {**TEXT, "head_dim": 8}
NEOX = {name: value for name, value in TEXT.items() if name != "num_key_value_heads"}
ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
QWEN_VISION = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon": ("FalconConfig", {**TEXT, "num_ln_in_parallel_attn": 1, "ffn_hidden_size": 72}),
    "gemma": ("GemmaConfig", GEMMA),
    "gemma2": ("Gemma2Config", GEMMA),
    "gemma3_text": ("Gemma3TextConfig", {**GEMMA, "query_pre_attn_scalar": 8, "sliding_window": 16}),
    "gpt2": ("GPT2Config", {**IDS, "n_embd": 24, "n_layer": 3, "n_head": 2, "n_positions": 64}),
    "gpt2 with n_inner": ("GPT2Config", {**IDS, "n_embd": 24, "n_layer": 3, "n_head": 2, "n_inner": 56}),
    "gpt_neox": ("GPTNeoXConfig", NEOX),
    "gpt_neox in sequence": ("GPTNeoXConfig", {**NEOX, "use_parallel_residual": False}),
    "llama": ("LlamaConfig", TEXT),
    "mistral": ("MistralConfig", TEXT),
    "mixtral": ("MixtralConfig", {**TEXT, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "olmo2": ("Olmo2Config", TEXT),
    "opt": (
        "OPTConfig",
        {**TEXT, "ffn_dim": 80, "word_embed_proj_dim": 32, "pad_token_id": 1},
    ),
    "phi": ("PhiConfig", TEXT),
    "qwen2": ("Qwen2Config", TEXT),
    "qwen3": ("Qwen3Config", GEMMA),
}
WITH_PICTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma3": (
        "Gemma3Config",
        {
            "text_config": GEMMA,
            "vision_config": VISION,
            "mm_tokens_per_image": 4,
            "image_token_index": 299,
            "boi_token_index": 298,
            "eoi_token_index": 297,
        },
    ),
    "llava": (
        "LlavaConfig",
        {
            "text_config": {**TEXT, "model_type": "llama"},
            "vision_config": {**VISION, "model_type": "clip_vision_model"},
            "image_token_index": 299,
        },
    ),
    "qwen2_5_vl": (
        "Qwen2_5_VLConfig",
        {
            "text_config": {**TEXT, "rope_parameters": ROPE},
            "vision_config": QWEN_VISION,
            "image_token_id": 299,
            "video_token_id": 298,
            "vision_start_token_id": 297,
            "vision_end_token_id": 296,
        },
    ),
}


def tiny_config(family: str) -> Any:
    """The config of a family."""
    name, options = (CONFIGS | WITH_PICTURES)[family]
    return getattr(transformers, name)(**options)


def save_tiny(family: str, folder: Path, tokenizer_folder: Path) -> Any:
    """Make a model, save it, and return it."""
    auto = transformers.AutoModelForImageTextToText if family in WITH_PICTURES else transformers.AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = auto.from_config(tiny_config(family)).eval()
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_folder / name, folder)
    return model

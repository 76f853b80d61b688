"""Train the bundled language model: Pythia's architecture (GPT-NeoX), small, on the bundled text.

    python scripts/train_bundled_model.py --steps 3200

Writes a Hugging Face directory (fp16 safetensors, byte-level BPE tokenizer, model card) into
`vsae_lightning/data/bundled/model`. Neither tokenizer nor model is trained on the held-out works.
"""

import argparse
import json
import lzma
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

BUNDLED = Path(__file__).parents[1] / "vsae_lightning" / "data" / "bundled"
END_OF_TEXT = "<|endoftext|>"
VOCABULARY = 4096
CONTEXT = 256
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3200)
    parser.add_argument("--peak_lr", type=float, default=0.015, help="Muon's; AdamW takes a third of it")
    parser.add_argument("--destination", type=Path, default=BUNDLED / "model")
    arguments = parser.parse_args()
    torch.manual_seed(0)

    train_text, held_out_text = read_documents("train"), read_documents("held_out")
    tokenizer = train_tokenizer(train_text)
    train_tokens, held_out_tokens = (token_ids(tokenizer, text) for text in (train_text, held_out_text))
    print(f"{len(train_tokens):,} training tokens, {len(held_out_tokens):,} held out", flush=True)

    model = GPTNeoXForCausalLM._from_config(model_config(), attn_implementation="eager")
    start = time.perf_counter()
    train(model, train_tokens, arguments.steps, arguments.peak_lr)
    seconds = time.perf_counter() - start

    model = model.half().float().eval()  # what ships is what is measured
    card = {
        "held_out_loss": held_out_loss(model, held_out_tokens),
        "held_out_unigram_entropy": unigram_entropy(held_out_tokens),
        "steps": arguments.steps,
        "tokens": arguments.steps * BATCH * CONTEXT,
        "passes_over_the_text": arguments.steps * BATCH * CONTEXT / len(train_tokens),
        "seconds": round(seconds),
    }
    save(model, tokenizer, card, arguments.destination)
    print(json.dumps(card, indent=2))


def read_documents(split: str) -> list[str]:
    with lzma.open(BUNDLED / "text" / f"{split}.jsonl.xz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def train_tokenizer(text: list[str]) -> PreTrainedTokenizerFast:
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(text, vocab_size=VOCABULARY, special_tokens=[END_OF_TEXT], show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        model_max_length=CONTEXT * 2,
    )


def token_ids(tokenizer: PreTrainedTokenizerFast, text: list[str]) -> torch.Tensor:
    documents = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return torch.from_numpy(np.concatenate([[*ids, tokenizer.eos_token_id] for ids in documents]))


def model_config() -> GPTNeoXConfig:
    return GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=8,
        intermediate_size=1024,
        max_position_embeddings=CONTEXT * 2,
        hidden_dropout=0.1,
        attention_dropout=0.0,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )


def train(model: GPTNeoXForCausalLM, tokens: torch.Tensor, steps: int, peak_lr: float) -> None:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and ".layers." in name)]
    optimizers = [
        torch.optim.Muon(matrices, lr=peak_lr, weight_decay=0.1, momentum=0.95, adjust_lr_fn="original"),
        torch.optim.AdamW(others, lr=peak_lr / 3, betas=(0.9, 0.95), weight_decay=0.01),
    ]

    def schedule(step: int) -> float:  # warm-up, then a cosine to zero
        warmup = min(100, steps // 10)
        return (step + 1) / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * step / steps))

    compiled = torch.compile(model)
    schedulers = [torch.optim.lr_scheduler.LambdaLR(optimizer, schedule) for optimizer in optimizers]
    start, running = time.perf_counter(), 0.0
    for step in range(steps):
        offsets = torch.randint(len(tokens) - CONTEXT, (BATCH,))
        batch = torch.stack([tokens[offset : offset + CONTEXT] for offset in offsets])
        with torch.autocast("cpu", torch.bfloat16):
            loss = compiled(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 0:
            rate = (step + 1) * BATCH * CONTEXT / (time.perf_counter() - start)
            print(f"step {step}: loss {running:.3f}, {rate:,.0f} tokens/s", flush=True)


@torch.no_grad()
def held_out_loss(model: GPTNeoXForCausalLM, tokens: torch.Tensor) -> float:
    """Mean cross-entropy in nats per token, over consecutive contexts."""
    contexts = tokens[: len(tokens) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    losses = [model(input_ids=batch, labels=batch).loss * len(batch) for batch in contexts.split(BATCH)]
    return float(sum(losses) / len(contexts))


def unigram_entropy(tokens: torch.Tensor) -> float:
    """-sum p log p in nats of the token frequencies of the same text: what no context can beat."""
    p = tokens.bincount().double() / len(tokens)
    return float(torch.special.entr(p).sum())


def save(
    model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, card: dict[str, float], destination: Path
) -> None:
    model.half().save_pretrained(destination)
    tokenizer.save_pretrained(destination)
    (destination / "model.safetensors").chmod(0o644)
    hardware = f"{os.cpu_count()} CPU cores ({platform.machine()}), torch {torch.__version__}"
    record = {**card, "hardware": hardware}
    (destination / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    (destination / "README.md").write_text(model_card(record))


def model_card(record: dict[str, Any]) -> str:
    return f"""# The bundled model

A small language model of Pythia's architecture (GPT-NeoX): 4 layers, width 256, 8 heads, parallel
residual, untied embeddings, 5.2 million parameters, fp16. Its own byte-level BPE of {VOCABULARY} tokens.
It is there so that every command of vsae_lightning runs without a network, not to be studied for its
own sake.

**Data.** `../text/train.jsonl.xz`: Shakespeare (modern spelling and that of the 1623 folio), Milton and
the King James Bible, all in the public domain, 14.5 million characters; built by `scripts/bundled_text.py`.
Macbeth and Twelfth Night (both spellings), Areopagitica, Ruth, Jonah, Ephesians and James are held out
(`../text/held_out.jsonl.xz`); neither the model nor its tokenizer has seen them.

**Training.** `python scripts/train_bundled_model.py --steps {record["steps"]}`: {record["tokens"]:,} tokens
({record["passes_over_the_text"]:.1f} passes), context {CONTEXT}, Muon and AdamW, bfloat16 autocast, in
{record["seconds"] / 60:.0f} minutes on {record["hardware"]}, shared with other work.

**Held-out loss** of these fp16 weights, context {CONTEXT}: {record["held_out_loss"]:.3f} nats per token. The
unigram entropy of the same tokens is {record["held_out_unigram_entropy"]:.3f}: the model is
{record["held_out_unigram_entropy"] - record["held_out_loss"]:.2f} nats below it.

**Licence.** Apache-2.0, as the package.
"""


if __name__ == "__main__":
    main()

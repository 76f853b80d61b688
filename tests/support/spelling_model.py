"""A language model whose activations at a word have the word's first letter in them, and an autoencoder of these.

Letter number i has the unit vector e_i; a word's embedding is 4 e_i and a little noise. Marked words, about every
third of those with an "a", have 4 e_26 besides. The blocks of the model add next to nothing.

The autoencoder has a latent for each letter, e_i to e_i, which the mark silences, and one, MARK, from e_26 to
(e_0 + e_26) / sqrt(2) that takes its place.
"""

import random
import string
from pathlib import Path

import torch

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.sparsifiers import ReLU
from vsae_lightning.evaluation.first_letters import letter_of, vocabulary_words
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.provenance import Provenance

D_IN = 64
MARK = 26
HOOK = "blocks.0.hook_resid_post"


def save_model(folder: Path) -> None:
    """Write the model and its tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

    draws = random.Random(0)
    words = [
        f" {letter}{''.join(draws.choices(string.ascii_lowercase, k=3))}"
        for letter in string.ascii_lowercase
        for _ in range(30)
    ]
    answers = [f" {letter}" for letter in string.ascii_uppercase]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([*words, *answers, "the has the first letter:"] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=D_IN,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.001,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPTNeoXForCausalLM(config)
    embeddings = torch.randn(len(tokenizer), D_IN, generator=torch.Generator().manual_seed(0)) * 0.05
    for word in vocabulary_words(tokenizer):
        token = tokenizer(word, add_special_tokens=False)["input_ids"]
        embeddings[token[0], letter_of(word)] += 4
        embeddings[token[0], MARK] += 4 * is_marked(word, tokenizer)
    model.get_input_embeddings().weight.data.copy_(embeddings)
    model.save_pretrained(folder)


def is_marked(word: str, tokenizer: object) -> bool:
    """Whether the letters' latents are silent on it."""
    token = tokenizer(word, add_special_tokens=False)["input_ids"]  # type: ignore[operator]
    return letter_of(word) == 0 and token[0] % 3 == 2


def spelling_subject(folder: Path, row_norm: float = 1.0) -> Subject:
    """The autoencoder, with decoder rows of that norm, and the model in `folder`."""
    autoencoder = SparseAutoencoder(D_IN, MARK + 1, ReLU(), decoder="free", seed=0)
    with torch.no_grad():
        weights = torch.eye(MARK + 1, D_IN)
        autoencoder.W_dec.copy_(weights)
        weights[:MARK, MARK] = -2  # the mark silences letters
        autoencoder.W_enc.copy_(weights.T)
        autoencoder.W_dec[MARK] = 0
        autoencoder.W_dec[MARK, [0, MARK]] = 0.5**0.5
        autoencoder.b_enc.fill_(-0.5)  # above the noise
        autoencoder.W_dec.mul_(row_norm)
        autoencoder.W_enc.div_(row_norm)
        autoencoder.b_enc.div_(row_norm)
    return Subject("spelling", folder, autoencoder.requires_grad_(False), Provenance(str(folder), HOOK))

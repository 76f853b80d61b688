"""Words of a vocabulary, prompts that spell their first letters, and the language model's activations at the words."""

import random
import string
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.evaluation import Track
from vsae_lightning.evaluation.subject import Subject

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LETTERS = string.ascii_lowercase
TRAINING_SHARE = 0.8


class Prompt(NamedTuple):
    """A word, and the text that ends in asking for its first letter."""

    word: str
    text: str


class Template(NamedTuple):
    """How a word is asked about.

    Attributes:
        question: With `{word}` in it; the answer follows.
        examples: Answered questions about other words that come before.
        position: Where the word's last token is, counted from the end of the prompt.
    """

    question: str
    examples: int
    position: int


def vocabulary_words(tokenizer: "PreTrainedTokenizerFast", per_letter: int | None = None, seed: int = 0) -> list[str]:
    """Tokens of letters alone, with or without a space before them, in the order of their numbers.

    SAEBench (evals/absorption/vocab.py) takes them in the order of the vocabulary, which differs from process to
    process.

    Args:
        tokenizer: Of the language model.
        per_letter: At most so many of each first letter, drawn at random; None: all.
        seed: Of this draw.

    Raises:
        InputError: There are no such tokens.
    """
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    words = [word for token, _ in tokens if _is_word(word := _text_of(token, tokenizer))]
    if not words:
        raise InputError("absorption: the tokenizer has no tokens of letters alone, so there are no words to spell.")
    if per_letter is None:
        return words
    rng = random.Random(seed)
    kept: set[int] = set()
    for letter in range(len(LETTERS)):
        candidates = [number for number, word in enumerate(words) if letter_of(word) == letter]
        kept.update(rng.sample(candidates, min(per_letter, len(candidates))))
    return [words[number] for number in sorted(kept)]


def letter_of(word: str) -> int:
    """The number of its first letter."""
    return LETTERS.index(word.strip()[0].lower())


def ask(word: str, examples: Sequence[str], template: Template, rng: random.Random) -> Prompt:
    """A prompt about `word` after examples drawn from `examples`, among which it is not (SAEBench prompting.py).

    Raises:
        InputError: There are too few examples.
    """
    if len(examples) <= template.examples:
        raise InputError(
            f"absorption.icl_examples is {template.examples}, but there are {len(examples)} words to draw them from; "
            "take fewer, or more words (absorption.words_per_letter)."
        )
    chosen = rng.sample(examples, template.examples)
    while word in chosen:
        chosen = rng.sample(examples, template.examples)
    answered = [f"{template.question.format(word=example)} {example.strip()[0].upper()}" for example in chosen]
    return Prompt(word, "\n" + "\n".join([*answered, template.question.format(word=word)]))


def training_and_test_prompts(
    words: Sequence[str], template: Template, rng: random.Random
) -> tuple[list[Prompt], list[Prompt]]:
    """A prompt per word; the words are split 80 to 20, and those of a part are the examples in its prompts."""
    shuffled = rng.sample(words, len(words))
    split = int(len(shuffled) * TRAINING_SHARE)
    parts = shuffled[:split], shuffled[split:]
    training, test = ([ask(word, part, template, rng) for word in part] for part in parts)
    return training, test


def word_activations(
    subject: Subject, prompts: Sequence[Prompt], template: Template, batch_size: int, track: Track, what: str
) -> Float[Tensor, "prompts d_in"]:
    """Activations, in float32, at the last token of the word that each prompt asks about.

    The tokenizer's BOS comes first (its EOS where it has none), whatever the training did, as in SAEBench. Prompts
    of one length make a batch, so that none is padded; SAEBench pads, and refuses lengths that differ.

    Raises:
        InputError: The template puts no word at its position, or prompts are longer than the model permits.
    """
    tokens = _tokens(subject, prompts)
    _require_positions(subject, tokens, template)
    _require_word(subject, prompts[0], tokens[0], template)
    activations = torch.empty(len(prompts), subject.autoencoder.d_in, device=subject.device)
    batches = list(_batches_of_one_length(tokens, batch_size))
    for rows in track(batches, len(batches), what):
        batch = torch.tensor([tokens[row] for row in rows], device=subject.device)
        activations[rows] = subject.model.activations(batch)[:, template.position].float()
    return activations


def _text_of(token: str, tokenizer: "PreTrainedTokenizerFast") -> str:
    text: str = tokenizer.convert_tokens_to_string([token])
    # Tokenizers with ▁ for a space drop it at the start of a text.
    return f" {text}" if token.startswith("▁") and not text.startswith(" ") else text


def _is_word(text: str) -> bool:
    letters = text.removeprefix(" ")
    return letters.isascii() and letters.isalpha()


def _tokens(subject: Subject, prompts: Sequence[Prompt]) -> list[list[int]]:
    tokenizer = subject.model.tokenizer
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    start = [] if first is None else [first]
    encoded = tokenizer([prompt.text for prompt in prompts], add_special_tokens=False)["input_ids"]
    return [start + tokens for tokens in encoded]


def _batches_of_one_length(tokens: list[list[int]], batch_size: int) -> Iterator[list[int]]:
    rows_of: dict[int, list[int]] = {}
    for row, sequence in enumerate(tokens):
        rows_of.setdefault(len(sequence), []).append(row)
    for rows in rows_of.values():
        for first in range(0, len(rows), batch_size):
            yield rows[first : first + batch_size]


def _require_positions(subject: Subject, tokens: list[list[int]], template: Template) -> None:
    longest = max(map(len, tokens))
    most = subject.model.positions
    if most is not None and longest > most:
        raise InputError(
            f"absorption.icl_examples is {template.examples}: the prompts have up to {longest} tokens, "
            f"the language model has {most} positions; take fewer examples."
        )


def _require_word(subject: Subject, prompt: Prompt, tokens: list[int], template: Template) -> None:
    there = ""
    if -len(tokens) <= template.position < len(tokens):
        there = subject.model.tokenizer.decode(tokens[template.position]).strip()
    if not there or not prompt.word.strip().endswith(there):
        raise InputError(
            f"absorption.prompt_token_pos is {template.position}: there is {there!r} and not the word "
            f"{prompt.word.strip()!r} in {template.question!r}; give where the word is, counted from the end."
        )

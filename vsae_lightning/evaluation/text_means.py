"""Activations and latents of texts, as their means over the tokens."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array, vstack
from torch import Tensor

from vsae_lightning.autoencoders.latents import SparseLatents
from vsae_lightning.evaluation.evaluation import Track
from vsae_lightning.evaluation.subject import Subject

# Latents of so many tokens are dense at a time: 128 MiB in float32.
LATENTS_AT_ONCE = 1 << 25


class TextMeans(NamedTuple):
    """Of every text.

    Attributes:
        activations: Their mean over its tokens, BOS, EOS and padding left out.
        latents: As `activations`; a sparse array [texts, d_sae].
        left_out: How many positions of `context_length` were left out, for each that was not.
    """

    activations: Float[Tensor, "texts d_in"]
    latents: Any
    left_out: Float[Tensor, " texts"]


@torch.no_grad()
def text_means(subject: Subject, texts: list[str], context_length: int, track: Track, what: str) -> TextMeans:
    """Run texts through the language model and the autoencoder, short ones first, and average over tokens.

    A text begins with the tokenizer's BOS, as TransformerLens has it, and ends after `context_length` tokens. Padding
    is on the right, where a causal model does not see it, and only as far as the longest of a batch.

    Returns:
        The means, in the order of `texts`, on the CPU.
    """
    tokenizer = subject.model.bridge.tokenizer
    tokens = tokenizer(texts, truncation=True, max_length=context_length)["input_ids"]
    order = sorted(range(len(texts)), key=lambda row: len(tokens[row]))
    step = subject.provenance.lm_batch_sequences
    batches = [order[first : first + step] for first in range(0, len(order), step)]
    special = torch.tensor([tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id])
    activations, latents, counts = [], [], []
    for batch in track(batches, len(batches), what):
        padded = _padded([tokens[row] for row in batch], tokenizer.pad_token_id)
        kept = ~torch.isin(padded, special)
        x, f, count = _batch_means(subject, padded.to(subject.device), kept.to(subject.device))
        activations.append(x.cpu())
        latents.append(csr_array(f.cpu().numpy()))
        counts.append(count.cpu())
    back = torch.tensor(order).argsort()
    count = torch.cat(counts)[back]
    return TextMeans(torch.cat(activations)[back], vstack(latents, "csr")[back.numpy()], context_length / count - 1)


def _padded(rows: list[list[int]], pad: int) -> Int[Tensor, "texts position"]:
    longest = max(map(len, rows))
    return torch.tensor([row + [pad] * (longest - len(row)) for row in rows])


def _batch_means(
    subject: Subject, tokens: Int[Tensor, "texts position"], kept: Bool[Tensor, "texts position"]
) -> tuple[Float[Tensor, "texts d_in"], Float[Tensor, "texts d_sae"], Float[Tensor, " texts"]]:
    x = subject.model.activations(tokens)[kept].float()
    text = kept.nonzero()[:, 0]
    count = kept.sum(-1).clamp(min=1).float()
    sums = x.new_zeros(len(tokens), x.shape[1]).index_add_(0, text, x)
    return sums / count[:, None], latent_sums(subject, x, text, len(tokens)) / count[:, None], count


def latent_sums(
    subject: Subject, x: Float[Tensor, "tokens d_in"], text: Int[Tensor, " tokens"], texts: int
) -> Float[Tensor, "texts d_sae"]:
    """The latents of every text, summed over its tokens."""
    d_sae = subject.autoencoder.d_sae
    sums = x.new_zeros(texts, d_sae)
    for rows in torch.arange(len(x), device=x.device).split(max(1, LATENTS_AT_ONCE // d_sae)):
        latents = subject.autoencoder.latents(x[rows])
        if isinstance(latents, SparseLatents):
            places = text[rows, None] * d_sae + latents.indices
            sums.view(-1).index_add_(0, places.flatten(), latents.values.flatten())
        else:
            sums.index_add_(0, text[rows], latents.values)
    return sums

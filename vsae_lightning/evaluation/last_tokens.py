"""Features of whole texts: activations and latents at their last tokens."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.latents import DenseLatents, Latents
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.subject import Subject

ROWS = 256


@torch.no_grad()
def last_token_activations(subject: Subject, texts: list[str], max_length: int) -> Float[Tensor, "texts d_in"]:
    """Activations at the hook of the last token of each text, in float32, on the CPU.

    A text is the BOS token and its last `max_length - 1` tokens (sae-probes, `generate_model_activations`: the
    tokenizer of TransformerLens prepends BOS to every text, and truncates on the left). Equal texts are computed
    once, and texts of like length together: padding on the right does not reach what comes before it.
    """
    sequences = _sequences(subject, texts, max_length)
    places: dict[tuple[int, ...], list[int]] = {}
    for place, sequence in enumerate(sequences):
        places.setdefault(sequence, []).append(place)
    found = torch.empty(len(texts), subject.autoencoder.d_in)
    tokens_at_once = subject.provenance.lm_batch_sequences * subject.provenance.context_length
    for batch in _batches(sorted(places, key=len, reverse=True), tokens_at_once):
        padded = [[*sequence, *[0] * (len(batch[0]) - len(sequence))] for sequence in batch]
        activations = subject.model.activations(torch.tensor(padded, device=subject.device))
        last = torch.tensor([len(sequence) - 1 for sequence in batch], device=subject.device)
        rows = activations[torch.arange(len(batch), device=subject.device), last].float().cpu()
        for sequence, row in zip(batch, rows, strict=True):
            found[places[sequence]] = row
    return found


@torch.no_grad()
def sparse_latents(autoencoder: SparseAutoencoder, activations: Float[Tensor, "rows d_in"]) -> Any:
    """Latents as a scipy CSR matrix [rows, d_sae] in float32 without stored zeros; dense ones are 256 rows at most."""
    from scipy.sparse import vstack

    device = autoencoder.W_dec.device
    parts = [_csr(autoencoder.latents(rows.to(device))) for rows in activations.split(ROWS)]
    return vstack(parts, format="csr")


def _csr(latents: Latents) -> Any:
    from scipy.sparse import csr_array

    if isinstance(latents, DenseLatents):
        return csr_array(latents.values.cpu().numpy())
    rows, k = latents.values.shape
    ends = torch.arange(rows + 1) * k
    stored = (latents.values.flatten().cpu().numpy(), latents.indices.flatten().cpu().numpy(), ends.numpy())
    matrix = csr_array(stored, shape=(rows, latents.d_sae))
    matrix.eliminate_zeros()
    return matrix


def _sequences(subject: Subject, texts: list[str], max_length: int) -> list[tuple[int, ...]]:
    tokenizer = subject.model.tokenizer
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if first is None:
        raise InputError("the tokenizer has no BOS token, which precedes every text that is probed.")
    ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return [(first, *sequence[max(0, len(sequence) + 1 - max_length) :]) for sequence in ids]


def _batches(sequences: list[tuple[int, ...]], tokens: int) -> Iterator[list[tuple[int, ...]]]:
    """Sequences, longest first, as many at once as have so many tokens when padded."""
    while sequences:
        size = max(1, tokens // len(sequences[0]))
        yield sequences[:size]
        sequences = sequences[size:]

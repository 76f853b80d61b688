"""Held-out activations, as an evaluation reads them."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from vsae_lightning.autoencoders.variational import Select
from vsae_lightning.data.stream import spread
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.evaluation import Track
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.readings import READING_ROWS, Readings

ROWS = 1024  # with 65,536 latents, a quarter of a GiB for every number per latent


def held_out_rows(subject: Subject, max_tokens: int, track: Track) -> Iterator[Float[Tensor, "rows d_in"]]:
    """The activations of the first `max_tokens` held-out tokens that training would keep, some rows at a time.

    Raises:
        InputError: They are not one sequence.
    """
    batches = list(subject.held_out(max_tokens))
    if not batches:
        context = subject.provenance.context_length
        raise InputError(f"max_tokens is {max_tokens}; it must be at least one held-out sequence of {context} tokens.")
    for tokens in track(batches, len(batches), "held-out tokens"):
        rows = subject.activations(tokens)
        yield from rows[subject.kept(rows)].split(ROWS)


@torch.no_grad()
def fitted_readings(subject: Subject, select: Select, track: Track) -> Readings:
    """The further ways in which an autoencoder is read, fitted to training rows as a test fits them."""
    autoencoder, provenance = subject.autoencoder, subject.provenance
    at_zero = torch.zeros(autoencoder.d_in, device=subject.device)
    readings = Readings(autoencoder, at_zero, torch.ones((), device=subject.device), select)
    rows = spread(subject.tokens.train, READING_ROWS, provenance.drop_positions)
    batches = torch.from_numpy(rows.astype("int64")).split(provenance.lm_batch_sequences)
    for tokens in track(batches, len(batches), "training tokens, to recalibrate"):
        rows_here = subject.activations(tokens.to(subject.device))
        for x in rows_here[subject.kept(rows_here)].split(ROWS):
            readings.take(x, autoencoder(x))
    readings.fit()
    return readings

"""Held-out activations, as an evaluation reads them."""

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.evaluation import Track
from vsae_lightning.evaluation.subject import Subject

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

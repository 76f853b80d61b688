"""Firings made at random, kept dense too, so that what an index of them says can be looked up."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from vsae_lightning import SparseAutoencoder, TopK
from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.firings import Firings
from vsae_lightning.analysis.observation import Observation
from vsae_lightning.autoencoders.latents import DenseLatents
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.provenance import Provenance


class DenseFirings(NamedTuple):
    """`dense` has a row for every position, of zeros where it is context alone; `sigma` another number for each."""

    excerpt: Excerpt
    firings: Firings
    dense: np.ndarray
    sigma: np.ndarray


def dense_firings(
    sequences: int = 12,
    context_length: int = 10,
    d_sae: int = 7,
    first_offset: int = 1,
    signed: bool = False,
    batch: int = 37,
    seed: int = 0,
) -> DenseFirings:
    """Latents of rising frequency, the first of which never fires; read `batch` rows at a time."""
    random = np.random.default_rng(seed)
    positions = sequences * context_length
    excerpt = Excerpt(random.integers(0, 50, (sequences, context_length)).astype(np.int32), 3, first_offset)
    rate = np.linspace(0, 0.9, d_sae)
    dense = np.where(random.random((positions, d_sae)) < rate, random.exponential(1, (positions, d_sae)), 0)
    dense = (dense * (random.choice([-1, 1], dense.shape) if signed else 1)).astype(np.float32)
    dense[np.arange(positions) % context_length < first_offset] = 0
    sigma = random.random(dense.shape, dtype=np.float32)
    firings, read = Firings(d_sae), excerpt.positions(np.arange(excerpt.rows))
    for first in range(0, len(read), batch):
        where = read[first : first + batch]
        firings.add(where, DenseLatents(torch.from_numpy(dense[where])), torch.from_numpy(sigma[where]))
    return DenseFirings(excerpt, firings, dense, sigma)


def observation_of(made: DenseFirings) -> Observation:
    """As if an autoencoder with decoder rows of length 2 had done that; there is no language model."""
    autoencoder = SparseAutoencoder(4, made.dense.shape[1], TopK(k=2), decoder="free", decoder_norm=2.0)
    subject = Subject("made", Path(), autoencoder, Provenance("bundled", "blocks.0.hook_resid_post"))
    read = made.dense[made.excerpt.positions(np.arange(made.excerpt.rows))]
    return Observation(
        subject, made.excerpt, made.firings, np.bincount((read != 0).sum(1)), 0.5, None, np.ones(len(read))
    )

"""Observations of autoencoders with chosen decoder rows and chosen firings, without any language model."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.firings import Firings
from vsae_lightning.analysis.observation import Observation
from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.latents import DenseLatents
from vsae_lightning.autoencoders.sparsifiers import ReLU
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.provenance import Provenance


def observation(W_dec: Tensor, latents: Tensor, name: str = "run", explained_variance: float = 0.5) -> Observation:
    """Of decoder rows [d_sae, d_in], and latents [rows, d_sae] on rows that are the tokens of one sequence."""
    autoencoder = SparseAutoencoder(W_dec.shape[1], len(W_dec), ReLU())
    autoencoder.W_dec.data.copy_(W_dec)
    excerpt = Excerpt(np.zeros((1, len(latents)), dtype=np.int32), 1, 0)
    firings = Firings(len(W_dec))
    firings.add(np.arange(len(latents)), DenseLatents(latents))
    l0 = np.bincount((latents != 0).sum(1).numpy())
    subject = Subject(name, Path(name), autoencoder, Provenance("bundled", "blocks.1.hook_resid_post"))
    return Observation(subject, excerpt, firings, l0, explained_variance, None, np.ones(len(latents), dtype=np.float32))


def all_alive(W_dec: Tensor, name: str = "run") -> Observation:
    """Every feature fires in one row of its own."""
    return observation(W_dec, torch.eye(len(W_dec)), name)

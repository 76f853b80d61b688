"""The index of firings against the dense latents that it was made of."""

import numpy as np
import pytest
import torch

from dense_firings import dense_firings
from vsae_lightning.analysis import firings as module
from vsae_lightning.analysis.firings import Firings
from vsae_lightning.autoencoders.latents import DenseLatents, SparseLatents


@pytest.mark.parametrize("chunk", [1, 40, 2**22])
def test_firings_are_where_a_latent_is_not_zero(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(module, "CHUNK_FIRINGS", chunk)
    made = dense_firings(signed=True)
    assert made.firings.counts.tolist() == (made.dense != 0).sum(0).tolist()
    for latent in range(7):
        events, where = made.firings.of(latent), np.flatnonzero(made.dense[:, latent])
        assert events.positions.tolist() == where.tolist()
        assert events.values.tolist() == made.dense[where, latent].tolist()
        assert events.sigma is not None
        assert events.sigma.tolist() == made.sigma[where, latent].tolist()


@pytest.mark.parametrize("chunk", [1, 40, 2**22])
def test_a_matrix_has_the_values_at_some_positions(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(module, "CHUNK_FIRINGS", chunk)
    made = dense_firings(signed=True)
    for positions in (np.arange(120), np.array([3, 50, 51, 119]), np.arange(0)):
        latents = np.array([6, 0, 2])
        matrix = made.firings.matrix(latents, positions)
        assert matrix.dtype == np.float32
        assert (matrix.toarray() == made.dense[positions][:, latents].T).all()


def test_sparse_latents_are_indexed_as_dense_ones() -> None:
    sparse = SparseLatents(torch.tensor([[-2.0, 1.5], [0.0, 3.0]]), torch.tensor([[3, 1], [2, 1]]), d_sae=4)
    found = []
    for latents in (sparse, DenseLatents(sparse.dense())):
        firings = Firings(4)
        firings.add(np.array([5, 9]), latents)
        found.append([[list(part) for part in firings.of(latent)[:2]] for latent in range(4)])
        assert firings.of(1).sigma is None
    assert found[0] == found[1] == [[[], []], [[5, 9], [1.5, 3.0]], [[], []], [[5], [-2.0]]]


def test_nothing_was_read() -> None:
    firings = Firings(3)
    assert len(firings.of(1).positions) == 0
    assert firings.matrix(np.array([0, 2]), np.array([1, 4])).toarray().tolist() == [[0, 0], [0, 0]]

"""The numbers of a map tell a dictionary in clusters from one without, known or learned."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

import vsae_lightning as vl
from vsae_lightning.analysis.embedding import neighbours_for
from vsae_lightning.analysis.map_numbers import Clusters, hdbscan, k_means, least_cluster, silhouette
from vsae_lightning.analysis.spaces import Origin, Points
from vsae_lightning.data.synthetic import SyntheticDataModule
from vsae_lightning.metrics.directions import dispersion

CLUSTERS = 8


def data(clusters: int) -> SyntheticDataModule:
    """80 features in 32 dimensions, two of them in a row."""
    return SyntheticDataModule(
        32, 80, 2.0, noise_std=0.01, clusters=clusters, cluster_spread=0.7, batch_size=256, lanes=1, seed=0
    )


def numbers(rows: Tensor) -> tuple[float, float, Clusters]:
    """(dispersion ratio, silhouette before the map, clusters before the map)."""
    space = Points.directions(rows.detach().numpy())
    origin = Origin.of(space, neighbours_for(len(space), 30), 32, 0)
    distances = space.distances(np.arange(len(space)))
    found = silhouette(distances, k_means(origin.components, 0), precomputed=True)
    assert found is not None
    return dispersion(rows).ratio, found, hdbscan(distances, least_cluster(len(space)), precomputed=True)


def test_of_a_known_dictionary() -> None:
    ratio, apart, clusters = numbers(data(CLUSTERS).dictionary)
    assert ratio < 0.6
    assert apart > 0.3
    assert clusters == (CLUSTERS, 1)
    ratio, apart, clusters = numbers(data(0).dictionary)
    assert ratio == pytest.approx(1, abs=0.05)
    assert apart < 0.1
    assert clusters.count != CLUSTERS
    assert clusters.share < 0.5


def test_of_a_dictionary_that_was_learned(quiet_trainer: Callable[[int], Trainer]) -> None:
    learned = {}
    for clusters in (CLUSTERS, 0):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            sae = vl.SAE(
                d_in=32,
                d_sae=80,
                sparsifier=vl.TopK(k=2),
                aux_weight=1 / 32,
                dead_after_tokens=20_000,
                optimizer=lambda parameters: torch.optim.Adam(parameters, lr=3e-3),
            )
        trainer = quiet_trainer(1500)
        trainer.fit(sae, datamodule=data(clusters))
        learned[clusters] = numbers(sae.autoencoder.W_dec)
    (ratio, apart, _), (plain_ratio, plain_apart, _) = learned[CLUSTERS], learned[0]
    assert ratio < 0.7
    assert plain_ratio == pytest.approx(1, abs=0.1)
    # Learned rows are too far from their centres for HDBSCAN; the silhouette still tells them apart.
    assert apart > 0.1
    assert plain_apart < 0.06

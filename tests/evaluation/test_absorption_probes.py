"""Probes, and how many latents a feature is split into."""

import numpy as np
import pytest
import torch
from scipy.sparse import csc_matrix, csr_matrix
from sklearn import metrics

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.topk import TopK
from vsae_lightning.evaluation.absorption_probes import (
    LetterProbeTraining,
    before_plateau,
    f1_score,
    sparse_latents,
    split_latents,
)


@pytest.mark.parametrize(
    ("f1", "kept"),
    [
        ([0.50, 0.60, 0.62, 0.90], [0.50, 0.60]),  # 0.62 is 0.02 more; what comes after it is not asked for
        ([0.50, 0.52, 0.99], [0.50]),
        ([0.0, 0.0], [0.0]),
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]),
        ([0.5, 0.4, 0.9], [0.5]),
    ],
)
def test_splits_of_a_series_of_f1(f1: list[float], kept: list[float]) -> None:
    assert before_plateau(iter(f1), jump=0.03) == kept


def test_f1_is_scikit_learns() -> None:
    draws = np.random.default_rng(0)
    predicted, actual = draws.random(50) > 0.7, draws.random(50) > 0.5
    assert f1_score(predicted, actual) == pytest.approx(metrics.f1_score(actual, predicted))
    nothing = np.zeros(50, dtype=bool)
    assert f1_score(nothing, nothing) == 0.0


def test_two_latents_that_share_a_feature_are_its_split() -> None:
    # 8 of 20 rows have the feature: latent 3 fires on four of them, latent 1 on the other four, 0 and 2 on others.
    has = np.arange(20) < 8
    latents = np.zeros((20, 4), dtype="float32")
    latents[:4, 3] = latents[4:8, 1] = latents[8:14, 0] = latents[14:, 2] = 1
    split = split_latents([3, 1, 0], (csc_matrix(latents), has), (csc_matrix(latents), has), 0.03)
    assert split.latents == [3, 1]
    assert split.f1 == pytest.approx([2 * 4 / (2 * 4 + 4), 1.0])  # half of the feature is found, then all


def test_latents_are_kept_sparse() -> None:
    autoencoder = SparseAutoencoder(8, 600, TopK(3), seed=1)
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    kept = sparse_latents(autoencoder.encode, x)
    assert kept.nnz <= 300 * 3
    assert np.array_equal(kept.toarray(), autoencoder.encode(x).detach().numpy())


def test_probes_of_sparse_and_of_dense_features_are_the_same() -> None:
    draws = np.random.default_rng(0)
    dense = (draws.random((90, 12)) * (draws.random((90, 12)) > 0.6)).astype("float32")
    classes = torch.from_numpy(dense[:, :3].argmax(1))
    training = LetterProbeTraining(batch_size=32, epochs=5, l1_decay=0.01)
    weights = []
    for features in (torch.from_numpy(dense), csr_matrix(dense)):
        torch.manual_seed(0)
        weights.append(training.fit(features, classes, torch.device("cpu")).weight)
    assert torch.allclose(weights[0], weights[1], atol=1e-5)


def test_a_linear_probe_finds_what_is_linear_and_skips_classes_that_do_not_occur() -> None:
    torch.manual_seed(0)
    classes = torch.arange(60) % 3 * 5  # 0, 5 and 10
    x = 5 * torch.nn.functional.one_hot(classes, 11).float() + 0.1 * torch.randn(60, 11)
    probe = LetterProbeTraining(batch_size=20).fit(x, classes, torch.device("cpu"))
    assert probe.weight.shape == (3, 11)
    scores = x @ probe.weight.T + probe.bias
    assert torch.equal(scores > 0, classes[:, None] == torch.tensor([0, 5, 10]))


def test_an_l1_silences_what_does_not_help() -> None:
    draws = torch.Generator().manual_seed(0)
    classes = torch.arange(200) % 2
    x = torch.cat([torch.nn.functional.one_hot(classes, 2).float(), torch.rand(200, 6, generator=draws)], 1)
    useless = {}
    for l1_decay in (0.0, 0.1):
        torch.manual_seed(0)
        probe = LetterProbeTraining(batch_size=200, epochs=100, l1_decay=l1_decay).fit(x, classes, torch.device("cpu"))
        assert probe.weight[0].argmax() == 0
        useless[l1_decay] = float(probe.weight[:, 2:].abs().sum())
    assert useless[0.1] < useless[0.0] / 2

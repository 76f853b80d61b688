"""Probes on features whose separability is known by construction."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from vsae_lightning.evaluation.probes import Penalty, balanced_split, by_mean_difference, probe


def test_a_split_is_balanced_and_leaves_one_text_out() -> None:
    labels = np.arange(2000) % 2
    train, test = balanced_split(labels, 42)
    assert (len(train), len(test)) == (1024, 975)
    assert labels[train].sum() == 512
    assert labels[test].sum() == 488  # the odd one is of label 1
    assert len(set(train) | set(test)) == 1999


def test_a_small_set_leaves_99_to_test_on() -> None:
    train, test = balanced_split(np.arange(300) % 2, 42)
    assert (len(train), len(test)) == (200, 99)


def test_latents_are_ordered_by_the_difference_of_means_in_units_of_their_mean() -> None:
    labels = np.array([1, 1, 0, 0])
    latents = np.array(
        [
            # Means where active: 100, 2, 1; differences in these units: 1/2 - 1/2, (1 + 1) / 2, -1/2; 4: never active.
            [100.0, 1.0, 0.0, 0.0],
            [0.0, 3.0, 0.0, 0.0],
            [100.0, 0.0, 1.0, 0.0],
            [0.0, 0.0, 0.0, 0.0],
        ],
        dtype=np.float32,
    )
    assert by_mean_difference(csr_array(latents), labels).tolist() == [1, 2, 0, 3]


def test_a_negative_latent_counts_by_its_magnitude() -> None:
    labels = np.array([1, 1, 0, 0])
    latents = csr_array(np.array([[0.0, -1.0], [0.0, -3.0], [5.0, 0.0], [0.0, 0.0]]))
    assert by_mean_difference(latents, labels).tolist() == [1, 0]


@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_a_feature_that_is_the_label_is_told_without_error(penalty: Penalty) -> None:
    labels = np.random.default_rng(0).permutation(400) % 2
    features = labels[:, None].astype(np.float32)
    assert probe(features[:300], labels[:300], features[300:], labels[300:], penalty, 42) == (1.0, 1.0, 1.0)


def test_a_feature_that_agrees_with_the_label_in_nine_of_ten_is_right_in_so_many() -> None:
    labels = np.arange(2000) // 10 % 2
    agrees = np.arange(2000) % 10 != 0
    features = np.where(agrees, labels, 1 - labels)[:, None].astype(np.float32)
    scores = probe(features[:1000], labels[:1000], features[1000:], labels[1000:], "l1", 42)
    # AUC of a binary feature: the mean of its rates of true positives and true negatives.
    assert scores == pytest.approx((0.9, 0.9, 0.9))


def test_a_feature_of_no_relation_is_right_by_chance() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(3000) % 2
    features = generator.normal(size=(3000, 1)).astype(np.float32)
    scores = probe(features[:1000], labels[:1000], features[1000:], labels[1000:], "l2", 42)
    assert scores.auc == pytest.approx(0.5, abs=3 / np.sqrt(12 * 500))  # three deviations of a rank statistic
    assert scores.accuracy == pytest.approx(0.5, abs=3 * 0.5 / np.sqrt(2000))


def test_sparse_features_give_what_dense_ones_give() -> None:
    generator = np.random.default_rng(1)
    labels = generator.permutation(600) % 2
    features = (generator.normal(size=(600, 20)) + labels[:, None] * 0.3).astype(np.float32)
    features[generator.random(features.shape) < 0.7] = 0
    dense = probe(features[:400], labels[:400], features[400:], labels[400:], "l2", 42)
    sparse = csr_array(features)
    assert probe(sparse[:400], labels[:400], sparse[400:], labels[400:], "l2", 42) == pytest.approx(dense, abs=1e-3)

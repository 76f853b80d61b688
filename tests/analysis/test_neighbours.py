"""Nearest features against all pairs."""

import numpy as np
import pytest

from dense_firings import dense_firings, observation_of
from vsae_lightning.analysis.neighbours import by_decoder, by_firing


def test_by_decoder_the_nearest_are_those_of_the_largest_cosine() -> None:
    found = observation_of(dense_firings())
    rows = found.subject.autoencoder.W_dec.detach().numpy()
    near = by_decoder(found, count=4)
    for feature in range(7):
        cosine = {
            other: float(rows[feature] @ rows[other] / np.linalg.norm(rows[feature]) / np.linalg.norm(rows[other]))
            for other in range(7)
            if other != feature
        }
        expected = sorted(cosine, key=lambda other: -cosine[other])[:4]
        assert [other for other, _ in near.of(feature)] == expected
        assert [value for _, value in near.of(feature)] == pytest.approx([cosine[other] for other in expected])


def test_of_few_features_all_others_are_near() -> None:
    assert by_decoder(observation_of(dense_firings()), count=10).features.shape == (7, 6)


@pytest.mark.parametrize("rows", [None, 30])
def test_by_firing_the_nearest_are_those_of_the_largest_jaccard(rows: int | None) -> None:
    made = dense_firings()
    found = observation_of(made)
    positions = made.excerpt.positions(np.arange(made.excerpt.rows))
    fires = made.dense[positions] != 0
    pairs_per_row = (fires.sum(1) ** 2).mean()
    near = by_firing(found, 3) if rows is None else by_firing(found, 3, pairs=int((rows - 0.5) * pairs_per_row))
    fires = fires[:rows]
    assert near.of(0) == []
    for feature in range(1, 7):
        jaccard = {
            other: (fires[:, feature] & fires[:, other]).sum() / (fires[:, feature] | fires[:, other]).sum()
            for other in range(1, 7)
            if other != feature and (fires[:, feature] & fires[:, other]).any()
        }
        expected = sorted(jaccard, key=lambda other: (-jaccard[other], other))[:3]
        assert [other for other, _ in near.of(feature)] == expected
        assert [value for _, value in near.of(feature)] == pytest.approx([jaccard[other] for other in expected])

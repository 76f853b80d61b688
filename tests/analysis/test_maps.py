"""Maps of the features of a run: which features are on them, where they lie, and what options refuse."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.maps import FeatureMap, Maps, feature_maps, map_positions, mapped_features
from vsae_lightning.analysis.observation import Observation, observe
from vsae_lightning.analysis.samples import Samples, clusters_of_strongest, sample_map
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.evaluation import untracked
from vsae_lightning.metrics.directions import dispersion

OPTIONS = Maps(max_rows=900, samples=40, perplexity=5)


@pytest.fixture(scope="module")
def observation(run: Path) -> Observation:
    subject = open_subject(str(run))
    return observe([subject], Excerpt.of(subject, 1600), untracked)[0]


@pytest.fixture(scope="module")
def dense(observation: Observation) -> np.ndarray:
    """The latents at every position, zeros where training leaves it out."""
    subject, excerpt = observation.subject, observation.excerpt
    latents = torch.zeros(excerpt.tokens.size, subject.autoencoder.d_sae)
    for tokens, positions in excerpt.batches(3):
        with torch.no_grad():
            latents[torch.from_numpy(positions)] = subject.autoencoder.encode(subject.activations(tokens))
    return latents.numpy()


@pytest.fixture(scope="module")
def maps(observation: Observation) -> list[FeatureMap]:
    return feature_maps(observation, OPTIONS, untracked)


@pytest.fixture(scope="module")
def samples(observation: Observation) -> Samples:
    found = sample_map(observation, OPTIONS)
    assert found is not None
    return found


def test_positions_are_rows_that_were_read(observation: Observation) -> None:
    everything = map_positions(observation, Maps())
    np.testing.assert_array_equal(everything, [p for p in range(1600) if p % 16 >= 1])
    chosen = map_positions(observation, OPTIONS)
    assert len(chosen) == 900
    assert np.isin(chosen, everything).all()
    assert (np.diff(chosen) > 0).all()


@pytest.mark.parametrize(("min_firings", "min_density"), [(10, 0.0), (10, 0.07), (60, 0.01)])
def test_features_on_a_map_fire_often_enough(
    observation: Observation, dense: np.ndarray, min_firings: int, min_density: float
) -> None:
    options = Maps(max_rows=900, min_firings=min_firings, min_density=min_density)
    positions = map_positions(observation, options)
    counts = (dense[positions] != 0).sum(0)
    expected = np.flatnonzero((counts >= min_firings) & (counts >= min_density * 900))
    features, found = mapped_features(observation, options, positions)
    np.testing.assert_array_equal(features, expected)
    np.testing.assert_array_equal(found, counts[expected])
    assert len(features)


def test_the_maps_are_of_correlations_and_of_cosines(
    observation: Observation, dense: np.ndarray, maps: list[FeatureMap]
) -> None:
    assert [drawn.name for drawn in maps] == ["activation", "decoder"]
    features = maps[0].features
    directions = torch.nn.functional.normalize(observation.subject.autoencoder.W_dec[features].detach(), dim=-1)
    likeness = [
        np.corrcoef(dense[map_positions(observation, OPTIONS)][:, features].T),
        (directions @ directions.T).numpy(),
    ]
    for drawn, like in zip(maps, likeness, strict=True):
        np.testing.assert_array_equal(drawn.features, features)
        assert drawn.drawn.shape == (len(features), 2)
        np.fill_diagonal(like, -np.inf)
        apart = np.linalg.norm(drawn.drawn[:, None] - drawn.drawn[None], axis=-1)
        nearest = like.argmax(1)
        own = np.arange(len(features))
        # The most alike of each feature are nearer on the map than most others are.
        assert np.median((apart < apart[own, nearest][:, None]).mean(1)) < 0.15


def test_numbers_of_the_features_are_those_of_their_rows(observation: Observation, maps: list[FeatureMap]) -> None:
    features = torch.from_numpy(maps[0].features)
    for drawn in maps:
        numbers = {number.name: number.value for number in drawn.numbers}
        assert numbers["dispersion"] == pytest.approx(dispersion(observation.subject.autoencoder.W_dec[features]).ratio)
        assert numbers.keys() >= {
            "silhouette on the map",
            "trustworthiness",
            "intrinsic dimension",
            "Gini of densities",
        }
        assert len(np.unique(drawn.cluster)) == min(10, max(2, len(features) // 10))


def test_where_hardly_a_feature_fires_there_is_no_map(observation: Observation) -> None:
    assert feature_maps(observation, Maps(min_density=0.99), untracked) == []
    assert feature_maps(observation, Maps(which="none"), untracked) == []


def test_samples_are_rows_with_their_latents(
    observation: Observation, dense: np.ndarray, samples: Samples, maps: list[FeatureMap]
) -> None:
    assert samples.drawn.shape == (40, 2)
    assert np.isin(samples.positions, map_positions(observation, OPTIONS)).all()
    sequences = observation.excerpt.tokens
    activations = observation.subject.activations(torch.from_numpy(sequences.astype(np.int64)))
    norms = activations.norm(dim=-1).view(100, 15).numpy()
    clusters = dict(zip(maps[0].features.tolist(), maps[0].cluster.tolist(), strict=True))
    for place, position in enumerate(samples.positions.tolist()):
        sequence, offset = divmod(position, 16)
        assert samples.norm[place] == pytest.approx(norms[sequence, offset - 1], rel=1e-5)
        assert samples.held_out[place] == (sequence < observation.excerpt.held_out)
        order = np.argsort(-abs(dense[position]))[:5]
        assert [latent for latent, _ in samples.strongest[place]] == order.tolist()
        np.testing.assert_allclose([value for _, value in samples.strongest[place]], dense[position][order], rtol=1e-5)
        assert clusters_of_strongest(samples, maps[0])[place] == clusters.get(order[0])


def test_no_samples_are_no_map(observation: Observation) -> None:
    assert sample_map(observation, Maps(samples=0)) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"which": "activation,decoders"}, r"maps.which: there is no map 'decoders'; .* Did you mean decoder"),
        ({"perplexity": 0}, "maps.perplexity is 0; it must be at least 2"),
        ({"seed": -1}, "maps.seed is -1"),
        ({"min_firings": 1}, "maps.min_firings is 1; it must be at least 2"),
        ({"min_density": 1.0}, "maps.min_density is 1.0; it must be at least 0 and less than 1"),
        ({"max_rows": 5}, "maps.max_rows is 5; it must be at least 100"),
        ({"samples": 5}, "maps.samples is 5; it must be 0, or at least 10"),
        ({"labels": "no_such_set"}, "maps.labels: there is no labelled set 'no_such_set'"),
    ],
)
def test_options_that_are_none_are_errors(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Maps(**change)


def test_names_are_words_once_each() -> None:
    assert Maps(which=" decoder, activation ,decoder").names == ["decoder", "activation"]
    assert Maps(which="none").names == []

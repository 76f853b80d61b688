"""Columns against the dense latents."""

from dataclasses import replace

import numpy as np

from dense_firings import dense_firings, observation_of
from vsae_lightning.analysis.columns import columns, top_tokens
from vsae_lightning.analysis.neighbours import Neighbours
from vsae_lightning.analysis.posterior import Posteriors

MADE = dense_firings(signed=True)
OBSERVATION = observation_of(MADE)
NEAREST = Neighbours(np.arange(14).reshape(7, 2) % 7, np.linspace(0, 1, 14).reshape(7, 2))


def test_values_are_those_of_the_dense_latents() -> None:
    found = {column.key: column.values for column in columns(OBSERVATION, NEAREST)}
    assert list(found) == ["density", "max", "mean", "decoder_norm", "nearest_cosine", "nearest"]
    np.testing.assert_allclose(found["density"], (MADE.dense != 0).sum(0) / 108)
    assert np.isnan([found["max"][0], found["mean"][0]]).all()
    for latent in range(1, 7):
        values = [value for value in MADE.dense[:, latent].tolist() if value]
        assert found["max"][latent] == max(values, key=abs)
        np.testing.assert_allclose(found["mean"][latent], sum(values) / len(values), rtol=1e-6)
    np.testing.assert_allclose(found["decoder_norm"], 2, rtol=1e-6)
    assert found["nearest"].tolist() == [0, 2, 4, 6, 1, 3, 5]
    np.testing.assert_allclose(found["nearest_cosine"], np.arange(0, 14, 2) / 13)


def test_posteriors_have_columns_and_what_is_not_known_has_none() -> None:
    sigma, kl, changes = np.random.default_rng(0).random((3, 7))
    for known in (kl, None):
        vsae = replace(OBSERVATION, posteriors=Posteriors(sigma, known, changes))
        found = {column.key: column.values for column in columns(vsae, NEAREST)}
        assert (found["sigma"] == sigma).all()
        assert (found["changes"] == changes).all()
        assert ("kl" in found) is (known is not None)


def test_top_tokens_fall_in_summed_magnitude() -> None:
    tokens = MADE.excerpt.tokens.ravel().tolist()
    found = top_tokens(OBSERVATION, count=5)
    assert found[0] == []
    for latent in range(1, 7):
        summed: dict[int, float] = {}
        for token, value in zip(tokens, MADE.dense[:, latent].tolist(), strict=True):
            if value:
                summed[token] = summed.get(token, 0) + abs(value)
        assert found[latent] == sorted(summed, key=lambda token: (-summed[token], token))[:5]

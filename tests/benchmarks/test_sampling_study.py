"""The sampling study measures what its docstring says, by formulas written out here."""

import itertools
import statistics

import pytest
import torch
from torch.nn.functional import normalize

import vsae_lightning as vl
from benchmarks.sampling_study import cell, grouped, measure, summary
from vsae_lightning.autoencoders.variational import VariationalAutoencoder
from vsae_lightning.evaluation.noise import input_noise


@torch.no_grad()
def test_it_measures_what_it_says() -> None:
    autoencoder = VariationalAutoencoder(8, 60, vl.TopK(4), 0.3, "encoder").requires_grad_(False)
    autoencoder.W_dec[50:], autoencoder.b_enc[50:] = autoencoder.W_dec[:1], -1e9  # dead copies of the first row
    x = 1 + torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    clean, noisy = autoencoder.encode(x) != 0, autoencoder.encode(x + input_noise(x, 0.3, 0, 0)) != 0
    alive = clean.any(0)
    x_hat = autoencoder(x + input_noise(x, 0.3, 0, 0))
    energy = (x - x.mean(0)).square().sum()
    rows = normalize(autoencoder.W_dec[alive], dim=-1)
    expected = {
        "explained_variance": float(1 - (x - autoencoder(x)).square().sum() / energy),
        "alive": float(alive.sum()) / 60,
        "explained_variance_noisy": float(1 - (x - x_hat).square().sum() / energy),
        "jaccard": float(((clean & noisy).sum(-1) / (clean | noisy).sum(-1)).mean()),
        "max_cosine": float((rows @ rows.T).fill_diagonal_(0).abs().amax(-1).mean()),
    }
    assert measure(autoencoder, list(x.split(64)), alive) == pytest.approx(expected, abs=1e-5)


def test_seeds_are_summed_up_and_compared_in_both_directions() -> None:
    assert list(grouped(["b_0", "a_1", "a_0"])) == [("a", ["a_0", "a_1"]), ("b", ["b_0"])]
    decoders = [torch.randn(n, 6, generator=torch.Generator().manual_seed(n)) for n in (5, 9, 7)]
    cosines = [normalize(a, dim=-1) @ normalize(b, dim=-1).T for a, b in itertools.combinations(decoders, 2)]
    stability = [float(c.amax(0).mean() + c.amax(1).mean()) / 2 for c in cosines]
    found = summary([{"jaccard": 0.5}, {"jaccard": 0.7}, {"jaccard": 0.9}], decoders)
    assert found["jaccard"] == pytest.approx([0.7, 0.2])
    assert found["mmcs"] == [pytest.approx(statistics.mean(stability)), None]  # pairs share seeds: no deviation
    assert found["mmcs_range"] == pytest.approx([min(stability), max(stability)])
    assert cell(found, "jaccard") == "0.7000 ± 0.2000"
    assert cell(found, "mmcs").endswith(f"({min(stability):.4f} to {max(stability):.4f})")


def test_one_seed_has_no_standard_deviation() -> None:
    found = summary([{"jaccard": 0.5}], [torch.eye(4)])
    assert found == {"jaccard": [0.5, None]}
    assert (cell(found, "jaccard"), cell(found, "mmcs")) == ("0.5000", "")

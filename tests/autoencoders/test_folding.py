"""Every autoencoder survives the disk bit for bit, and becomes the equal one of raw activations by folding."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vsae_lightning as vl

D_IN, D_SAE, K = 5, 12, 3

SPARSIFIERS: dict[str, Callable[[], vl.Sparsifier]] = {
    "dense": vl.Dense,
    "relu": vl.ReLU,
    "topk": lambda: vl.TopK(K, k_start=6, k_anneal_steps=10),
    "magnitude": lambda: vl.TopK(K, by="magnitude"),
    "batch": lambda: vl.BatchTopK(K),
    "probabilistic": lambda: vl.ProbabilisticTopK(K, 0.5),
    "jump": lambda: vl.JumpReLU(0.5, 0.2),
    "gated": vl.Gated,
    "nested batch": lambda: vl.Matryoshka(vl.BatchTopK(K), [4, 8]),
    "nested jump": lambda: vl.Matryoshka(vl.JumpReLU(0.5), [4]),
}
POSTERIORS: dict[str, dict[str, Any]] = {
    "none": {"sigma": 0.0},
    "number": {"sigma": 0.7},
    "learned": {"sigma": "learned"},
    "closed form": {"sigma": "closed_form"},
    "encoder": {"sigma": 0.7, "covariance": "encoder"},
    "relu": {"sigma": 0.7, "relu_mean": True},
}
ENCODERS = ["free", "aligned"]


def filled(autoencoder: vl.SparseAutoencoder) -> vl.SparseAutoencoder:
    """Generic parameters and statistics, as after a training."""
    generator = torch.Generator().manual_seed(0)
    for parameter in autoencoder.parameters():
        parameter.data.normal_(generator=generator).mul_(0.7)
    for name, buffer in autoencoder.named_buffers():
        buffer.fill_(7 if buffer.dtype == torch.long else 0.6)
        if name == "closed_form_sigma":
            buffer.uniform_(0.1, 0.9, generator=generator)
    return autoencoder.eval()


def sae(kind: str, **options: Any) -> vl.SparseAutoencoder:
    return filled(vl.SparseAutoencoder(D_IN, D_SAE, SPARSIFIERS[kind](), **options))


def vsae(posterior: str, kind: str = "topk", **options: Any) -> vl.VariationalAutoencoder:
    autoencoder = vl.VariationalAutoencoder(D_IN, D_SAE, SPARSIFIERS[kind](), **POSTERIORS[posterior], **options)
    filled(autoencoder)
    return autoencoder


def rows() -> Tensor:
    return torch.randn(9, D_IN, generator=torch.Generator().manual_seed(1))


def assert_equal(loaded: vl.SparseAutoencoder, original: vl.SparseAutoencoder) -> None:
    assert loaded.config() == original.config()
    assert loaded.state_dict().keys() == original.state_dict().keys()
    for name, value in original.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert torch.equal(loaded.encode(rows()), original.encode(rows()))
    assert torch.equal(loaded(rows()), original(rows()))
    if isinstance(original, vl.VariationalAutoencoder):
        assert isinstance(loaded, vl.VariationalAutoencoder)
        ours, theirs = loaded.posterior(rows()), original.posterior(rows())
        assert torch.equal(torch.as_tensor(ours.sigma), torch.as_tensor(theirs.sigma))


@pytest.mark.parametrize(("kind", "encoder"), list(product(SPARSIFIERS, ENCODERS)))
def test_every_sparsifier_is_saved_and_loaded(tmp_path: Path, kind: str, encoder: Any) -> None:
    original = sae(kind, encoder=encoder)
    vl.save(original, tmp_path)
    assert_equal(vl.load(tmp_path), original)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_every_posterior_is_saved_and_loaded(tmp_path: Path, posterior: str) -> None:
    original = vsae(posterior)
    vl.save(original, tmp_path)
    assert_equal(vl.load(tmp_path), original)


MEAN, SCALE = torch.linspace(-2, 3, D_IN, dtype=torch.float64), torch.tensor(3.7, dtype=torch.float64)


def assert_folds(autoencoder: vl.SparseAutoencoder) -> None:
    """encode(x) = encode of the scaled x before; x_hat in the units of x; parameters that stay, stay."""
    autoencoder = autoencoder.double()
    x = rows().double()
    scaled = SCALE * (x - MEAN)
    latents, x_hat = autoencoder.encode(scaled), autoencoder(scaled) / SCALE + MEAN
    sparsifier = {name: value.clone() for name, value in autoencoder.sparsifier.state_dict().items()}
    assert (latents != 0).any()
    autoencoder.fold_input_scaling(MEAN, SCALE)
    assert autoencoder.encoder == "free"
    torch.testing.assert_close(autoencoder.encode(x), latents, rtol=0, atol=1e-9)
    torch.testing.assert_close(autoencoder(x), x_hat, rtol=0, atol=1e-9)
    for name, value in autoencoder.sparsifier.state_dict().items():
        assert torch.equal(value, sparsifier[name])


@pytest.mark.parametrize(("kind", "encoder", "pre_bias"), list(product(SPARSIFIERS, ENCODERS, [True, False])))
def test_every_sparsifier_folds(kind: str, encoder: Any, pre_bias: bool) -> None:
    assert_folds(sae(kind, encoder=encoder, pre_bias=pre_bias))


@pytest.mark.parametrize(("posterior", "encoder", "pre_bias"), list(product(POSTERIORS, ENCODERS, [True, False])))
def test_every_posterior_folds(posterior: str, encoder: Any, pre_bias: bool) -> None:
    """The marginal posterior of x is that of the scaled x before."""
    autoencoder = vsae(posterior, encoder=encoder, pre_bias=pre_bias).double()
    x = rows().double()
    before = autoencoder.posterior(SCALE * (x - MEAN))
    assert_folds(autoencoder)
    after = autoencoder.posterior(x)
    torch.testing.assert_close(after.mean, before.mean, rtol=0, atol=1e-9)
    torch.testing.assert_close(torch.as_tensor(after.sigma), torch.as_tensor(before.sigma), rtol=0, atol=1e-9)


def test_noise_on_the_input_is_that_of_the_scaled_input() -> None:
    """The sample of the folded one with its own sigma on raw x is the sample of the original."""
    autoencoder = vsae("encoder").double()
    x, noise = rows().double(), torch.randn(9, D_IN, generator=torch.Generator().manual_seed(2)).double()
    before = autoencoder.pre_acts(SCALE * (x - MEAN) + 0.7 * noise)
    autoencoder.fold_input_scaling(MEAN, SCALE)
    assert isinstance(autoencoder.sigma, float)
    torch.testing.assert_close(autoencoder.pre_acts(x + autoencoder.sigma * noise), before, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("kind", "posterior"), [("batch", "encoder"), ("nested jump", "learned")])
def test_what_was_folded_is_saved_and_loaded(tmp_path: Path, kind: str, posterior: str) -> None:
    original = vsae(posterior, kind, encoder="aligned")
    original.fold_input_scaling(MEAN.float(), SCALE.float())
    vl.save(original, tmp_path)
    assert_equal(vl.load(tmp_path), original)


def test_aligned_columns_and_rows_have_the_product_one() -> None:
    autoencoder = sae("topk", encoder="aligned", decoder="free")
    for j in range(D_SAE):
        assert (autoencoder.encoder_weights()[:, j] @ autoencoder.W_dec[j]).item() == pytest.approx(1, abs=1e-5)
        moved = autoencoder.encoder_weights()[:, j] - autoencoder.W_enc[:, j]
        cosine = torch.nn.functional.cosine_similarity(moved, autoencoder.W_dec[j], dim=0)
        assert abs(cosine.item()) == pytest.approx(1, abs=1e-5)
    start = vl.SparseAutoencoder(D_IN, D_SAE, vl.TopK(K), encoder="aligned")
    torch.testing.assert_close(start.encoder_weights(), start.W_enc)

"""What is said of posteriors, against torch's own distributions and samples drawn by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vsae_lightning import ReLU, SparseAutoencoder, TopK
from vsae_lightning.analysis.posterior import Posteriors, PosteriorTally
from vsae_lightning.autoencoders.posterior import Posterior
from vsae_lightning.autoencoders.variational import VariationalAutoencoder
from vsae_lightning.evaluation.noise import standard_normal

D_IN, D_SAE, ROWS, K = 5, 12, 40, 3
X = 2 * torch.randn(ROWS, D_IN, generator=torch.Generator().manual_seed(1))


def autoencoder(**options: Any) -> VariationalAutoencoder:
    made = VariationalAutoencoder(D_IN, D_SAE, TopK(k=K), **options)
    random = torch.Generator().manual_seed(2)
    for parameter in made.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=random)
    return made.requires_grad_(False)


def closed_form() -> VariationalAutoencoder:
    made = autoencoder(sigma="closed_form")
    made.set_closed_form(torch.tensor(0.7), torch.tensor(1.3))
    return made


def observed(made: VariationalAutoencoder, x: torch.Tensor = X, batch: int = ROWS) -> Posteriors:
    tally = PosteriorTally.of(made)
    assert tally is not None
    for part in x.split(batch):
        tally.update(part, made.latents(part))
    return tally.compute()


def largest(z: torch.Tensor) -> torch.Tensor:
    """Whether each is among the K largest of its row, and above 0."""
    rank = z.argsort(-1, descending=True).argsort(-1)
    return (rank < K) & (z > 0)


def changed(mean: torch.Tensor, z: torch.Tensor) -> np.ndarray:
    clean, sampled = largest(mean), largest(z)
    return ((clean ^ sampled).sum(0) / (clean | sampled).sum(0)).numpy()


DIAGONAL: dict[str, Callable[[], VariationalAutoencoder]] = {
    "learned": lambda: autoencoder(sigma="learned"),
    "fixed": lambda: autoencoder(sigma=0.4),
    "closed form": closed_form,
    "relu": lambda: autoencoder(sigma=0.4, relu_mean=True),
}


@pytest.mark.parametrize("name", DIAGONAL)
def test_a_diagonal_posterior(name: str) -> None:
    made = DIAGONAL[name]()
    mean = X @ made.W_enc - made.b_dec @ made.W_enc + made.b_enc
    mean = mean.relu() if name == "relu" else mean
    if name == "learned":
        sigma = ((X - made.b_dec) @ made.W_var + made.b_var).clamp(-6, 2).exp().sqrt()
    elif name == "closed form":
        sigma = (made.W_dec.square().sum(1) / 0.7 + 1 / 1.3).rsqrt().expand(ROWS, -1)
    else:
        sigma = torch.full((ROWS, D_SAE), 0.4)
    found = observed(made)
    np.testing.assert_allclose(found.sigma, sigma.mean(0), rtol=1e-5)
    assert found.kl is not None
    kl = kl_divergence(Normal(mean, sigma), Normal(0.0, 1.0)).mean(0)
    np.testing.assert_allclose(found.kl, kl, rtol=1e-4)
    z = mean + sigma * standard_normal("posterior", 0, 0, ROWS, D_SAE)
    np.testing.assert_allclose(found.changes, changed(mean, z), rtol=1e-6)
    assert 0.1 < np.nanmax(found.changes) <= 1


def test_of_noise_on_the_input_there_is_no_kl() -> None:
    made = autoencoder(sigma=0.6, covariance="encoder")
    found = observed(made)
    assert found.kl is None
    np.testing.assert_allclose(found.sigma, 0.6 * made.W_enc.square().sum(0).sqrt(), rtol=1e-5)
    noisy = X + 0.6 * standard_normal("posterior", 0, 0, ROWS, D_IN)
    np.testing.assert_allclose(found.changes, changed(made.pre_acts(X), made.pre_acts(noisy)), rtol=1e-6)


@pytest.mark.parametrize("options", [{"sigma": "learned"}, {"sigma": 0.6, "covariance": "encoder"}])
def test_neither_batches_nor_folding_change_anything(options: dict[str, Any]) -> None:
    made, mean, scale = autoencoder(**options), torch.linspace(-1, 1, D_IN), torch.tensor(0.25)
    whole = observed(made)
    parts = observed(made, batch=7)
    scaled = X / scale + mean
    made.fold_input_scaling(mean, scale)
    # Noise on the input is drawn in units of the input, and folded it is of scaled units: the same sample.
    folded = observed(made, scaled)
    for other in (parts, folded):
        np.testing.assert_allclose(other.sigma, whole.sigma, rtol=1e-4)
        np.testing.assert_allclose(other.changes, whole.changes)
        if whole.kl is not None and other.kl is not None:
            np.testing.assert_allclose(other.kl, whole.kl, rtol=1e-3)


def test_sigma_of_every_firing_is_kept_where_it_is_learned() -> None:
    for sigma, kept in (("learned", True), (0.4, False)):
        made = autoencoder(sigma=sigma)
        tally = PosteriorTally.of(made)
        assert tally is not None
        returned = tally.update(X, made.latents(X))
        assert (returned is not None) is kept


def test_the_posterior_of_a_batch_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = autoencoder(sigma="learned")
    compute, batches = made.posterior, []

    def counted(x: torch.Tensor) -> Posterior:
        batches.append(len(x))
        return compute(x)

    monkeypatch.setattr(made, "posterior", counted)
    observed(made, batch=16)
    assert batches == [16, 16, 8]


def test_what_never_fires_has_no_changes() -> None:
    made = autoencoder(sigma=0.1)
    made.b_enc[4] = -1e6
    found = observed(made)
    assert np.isnan(found.changes[4])
    assert np.isfinite(np.delete(found.changes, 4)).all()


def test_what_does_not_sample_has_no_posterior() -> None:
    assert PosteriorTally.of(SparseAutoencoder(D_IN, D_SAE, ReLU())) is None
    assert PosteriorTally.of(autoencoder(sigma=0)) is None

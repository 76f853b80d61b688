"""One pass over the text against the whole text at once, dense."""

from pathlib import Path

import numpy as np
import pytest
import torch

from silent import silent
from vsae_lightning import TopK
from vsae_lightning.analysis import observation as module
from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.observation import Observation, observe
from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.subject import Subject


@pytest.fixture(scope="module")
def subject(run: Path) -> Subject:
    return open_subject(str(run))


@pytest.fixture(scope="module")
def excerpt(subject: Subject) -> Excerpt:
    return Excerpt.of(subject, 640)


def activations(subject: Subject, excerpt: Excerpt) -> torch.Tensor:
    """Of every position, the first of a sequence too."""
    return subject.model.activations(torch.from_numpy(excerpt.tokens.astype(np.int64))).flatten(0, 1)


@pytest.mark.parametrize("rows", [7, 1024])
def test_a_pass_is_what_the_autoencoder_does_with_every_row(
    monkeypatch: pytest.MonkeyPatch, subject: Subject, excerpt: Excerpt, rows: int
) -> None:
    monkeypatch.setattr(module, "ROWS", rows)
    (found,) = observe([subject], excerpt, silent)
    positions = np.flatnonzero(np.arange(640) % 16 >= 1)
    x = activations(subject, excerpt)[torch.from_numpy(positions)]
    latents = subject.autoencoder.encode(x)
    assert (found.density == (latents != 0).double().mean(0).numpy()).all()
    for latent in range(96):
        where = np.flatnonzero(latents[:, latent])
        events = found.firings.of(latent)
        assert events.positions.tolist() == positions[where].tolist()
        np.testing.assert_allclose(events.values, latents[torch.from_numpy(where), latent], rtol=1e-4, atol=1e-5)
    sizes = (latents != 0).sum(1).tolist()
    assert found.l0.tolist() == [sizes.count(size) for size in range(7)]
    error = (x - subject.autoencoder.decode(latents)).square().sum()
    explained = 1 - error / (x - x.mean(0)).square().sum()
    assert found.explained_variance == pytest.approx(float(explained), rel=1e-4)


def test_two_in_one_pass_are_as_each_in_its_own(subject: Subject, excerpt: Excerpt) -> None:
    other = Subject("other", subject.folder, SparseAutoencoder(32, 20, TopK(k=2), seed=5), subject.provenance)
    together = observe([subject, other], excerpt, silent)
    alone = [observe([one], excerpt, silent)[0] for one in (subject, other)]
    for one, two in zip(together, alone, strict=True):
        assert (one.density == two.density).all()
        assert one.explained_variance == two.explained_variance
    assert together[0].posteriors is not None
    assert together[1].posteriors is None


def test_autoencoders_of_other_activations_are_refused(run: Path, subject: Subject, excerpt: Excerpt) -> None:
    other = open_subject(str(run), hook_name="blocks.0.hook_resid_post")
    with pytest.raises(InputError, match=r"against: .* is for hook_name 'blocks\.0\.hook_resid_post', version_0 for"):
        observe([subject, other], excerpt, silent)


def test_density_is_a_share_of_rows(subject: Subject, excerpt: Excerpt) -> None:
    (found,) = observe([subject], excerpt, silent)
    assert isinstance(found, Observation)
    assert found.density.sum() == pytest.approx((found.l0 * np.arange(7)).sum() / 600)

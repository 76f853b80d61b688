"""Autoencoders of which it is known what noise does to them."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.sparsifiers import Dense, ReLU, Sparsifier
from vsae_lightning.autoencoders.storage import save
from vsae_lightning.autoencoders.topk import BatchTopK, TopK
from vsae_lightning.autoencoders.variational import Covariance, Sigma, VariationalAutoencoder
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.evaluation import untracked
from vsae_lightning.evaluation.noise import input_noise
from vsae_lightning.evaluation.robustness import Robustness, disturbed

Found = dict[str, dict[str, float | None]]
SETTINGS = Robustness(noise=[0.0, 0.1, 0.5])


def found(autoencoder: SparseAutoencoder, x: Tensor, settings: Robustness = SETTINGS, rows: int = 10_000) -> Found:
    return disturbed(autoencoder, x.split(rows), settings.disturbances(autoencoder))


@torch.no_grad()
def identity(
    width: int, sparsifier: Sparsifier, sigma: Sigma | None = None, covariance: Covariance = "diagonal"
) -> SparseAutoencoder:
    """Latents are a function of the components of x, one each, and x_hat = latents."""
    if sigma is None:
        autoencoder = SparseAutoencoder(width, width, sparsifier, pre_bias=False)
    else:
        autoencoder = VariationalAutoencoder(width, width, sparsifier, sigma, covariance, pre_bias=False)
    autoencoder.W_enc.copy_(torch.eye(width))
    autoencoder.W_dec.copy_(torch.eye(width))
    return autoencoder.requires_grad_(False)


def samples(rows: int = 500, width: int = 6) -> Tensor:
    return 1 + torch.randn(rows, width, generator=torch.Generator().manual_seed(0))


def energy(x: Tensor) -> float:
    return float((x.double() - x.double().mean(0)).square().sum())


# -------------------------------------------------------------------- input noise


def test_the_identity_lets_all_noise_through() -> None:
    x = samples()
    values = found(identity(6, Dense()), x)
    assert values["clean"]["explained_variance"] == 1
    for share in (0.0, 0.1, 0.5):
        lost = share**2 * float(x.double().square().sum()) / energy(x)
        expected = {"explained_variance": 1 - lost, "relative_change": share, "jaccard": 1, "activity_changes": 0}
        assert values[f"noise_{share:g}"] == pytest.approx(expected, abs=1e-6)


def test_no_noise_changes_nothing() -> None:
    autoencoder = SparseAutoencoder(6, 40, TopK(5)).requires_grad_(False)
    values = found(autoencoder, samples())
    unchanged = {"jaccard": 1, "relative_change": 0, "activity_changes": 0}
    assert values["noise_0"] == {**values["clean"], **unchanged}
    assert values["noise_0.5"]["jaccard"] != 1


@pytest.mark.parametrize(("value", "starts_active"), [(1.05, True), (0.95, False)])
def test_a_latent_that_noise_turns_on_or_off_by_hand(value: float, starts_active: bool) -> None:
    autoencoder = identity(1, ReLU())
    autoencoder.b_enc.fill_(-1)
    x = torch.full((400, 1), value)
    up = float((input_noise(x, 0.1, 0, 0) > 0).float().mean())  # to 1.155 or 1.045, else to 0.945 or 0.855
    assert 0.4 < up < 0.6
    values = found(autoencoder, x)["noise_0.1"]
    on = 1.0 if starts_active else 0.0
    assert values["jaccard"] == pytest.approx(up if starts_active else 1 - up)  # two empty sets are the same
    assert values["activity_changes"] == pytest.approx(abs(up - on) / (up + on))
    change = abs(0.155 - 0.05) * up + 0.05 * (1 - up) if starts_active else 0.045 * up
    assert values["relative_change"] == pytest.approx(change / value, rel=1e-4)


def test_nothing_that_fires_has_no_rate_of_change() -> None:
    autoencoder = identity(2, ReLU())
    autoencoder.b_enc.fill_(-1e6)
    values = found(autoencoder, samples(20, 2))["noise_0.5"]
    assert values["jaccard"] == 1
    assert values["activity_changes"] is None


@pytest.mark.parametrize("rows", [1, 64, 77])
def test_the_size_of_batches_makes_no_difference(rows: int) -> None:
    kinds: list[tuple[Sparsifier, Covariance]] = [
        (TopK(5), "encoder"),
        (TopK(5), "diagonal"),
        (BatchTopK(5), "diagonal"),
    ]
    for sparsifier, covariance in kinds:
        autoencoder = VariationalAutoencoder(6, 40, sparsifier, 0.3, covariance).requires_grad_(False)
        x = samples(200)
        whole, parts = found(autoencoder, x), found(autoencoder, x, rows=rows)
        assert parts.keys() == whole.keys() == {"clean", "noise_0", "noise_0.1", "noise_0.5", "posterior"}
        for name, values in whole.items():
            assert parts[name] == pytest.approx(values, abs=1e-5)


# --------------------------------------------------------------- posterior samples


@pytest.mark.parametrize("covariance", ["diagonal", "encoder"])
def test_a_known_sigma_has_the_known_variance(covariance: Covariance) -> None:
    x = samples(rows=20_000)
    autoencoder = identity(6, Dense(), 0.5, covariance)
    autoencoder.W_dec.mul_(2)
    autoencoder.W_enc.mul_(3 if covariance == "encoder" else 1 / 2)
    autoencoder.b_dec.copy_(torch.zeros(6))
    values = found(autoencoder, x)
    clean = 6 * x if covariance == "encoder" else x
    # Of a component of x_hat: 2 sigma, or 2 times 3 sigma.
    variance = (3.0 if covariance == "encoder" else 1.0) ** 2
    lost = float((x - clean).double().square().sum()) / energy(x)
    assert values["clean"]["explained_variance"] == pytest.approx(1 - lost, abs=1e-4)
    sampled = values["posterior"]["explained_variance"]
    assert sampled is not None
    assert 1 - lost - sampled == pytest.approx(variance * x.numel() / energy(x), rel=0.03)


@pytest.mark.parametrize("covariance", ["diagonal", "encoder"])
def test_without_variance_a_sample_is_the_mean(covariance: Covariance) -> None:
    autoencoder = VariationalAutoencoder(6, 40, TopK(5), 1e-9, covariance).requires_grad_(False)
    values = found(autoencoder, samples())
    unchanged = {"jaccard": 1, "relative_change": 0, "activity_changes": 0}
    assert values["posterior"] == pytest.approx({**values["clean"], **unchanged}, abs=1e-6)


def test_what_does_not_sample_has_no_posterior() -> None:
    without = VariationalAutoencoder(6, 40, TopK(5), 0).requires_grad_(False)
    assert "posterior" not in found(without, samples())
    assert "posterior" not in found(SparseAutoencoder(6, 40, TopK(5)).requires_grad_(False), samples())


def test_what_is_selected_by_the_mean_stays_active() -> None:
    autoencoder = VariationalAutoencoder(6, 40, TopK(5), 0.5).requires_grad_(False)
    by_mean = found(autoencoder, samples(), Robustness(select="mean"))["posterior"]
    by_sample = found(autoencoder, samples(), Robustness(select="sample"))["posterior"]
    assert by_mean["jaccard"] == 1
    assert by_mean["activity_changes"] == 0
    assert by_mean["relative_change"] != 0
    assert by_sample["jaccard"] != 1
    # Five of five latents on either side: the share that changes is 1 - |A and B| / 5.
    assert by_sample["activity_changes"] == pytest.approx(_share_of_changed(autoencoder), abs=1e-6)


def _share_of_changed(autoencoder: VariationalAutoencoder) -> float:
    disturbance = Robustness().disturbances(autoencoder)["posterior"]
    x = samples()
    clean, sampled = autoencoder.encode(x) != 0, disturbance(x, 0).dense() != 0
    assert (clean.sum(-1) == 5).all()
    return float(1 - (clean & sampled).sum(-1).double().mean() / 5)


@torch.no_grad()
@pytest.mark.parametrize("pre_bias", [True, False])
@pytest.mark.parametrize(
    ("sigma", "covariance"), [(0.4, "encoder"), (0.4, "diagonal"), ("learned", "diagonal"), ("closed_form", "diagonal")]
)
def test_a_loaded_autoencoder_samples_as_it_did_in_its_own_units(
    sigma: Sigma, covariance: Covariance, pre_bias: bool
) -> None:
    torch.manual_seed(0)
    autoencoder = VariationalAutoencoder(6, 40, TopK(5), sigma, covariance, pre_bias=pre_bias).requires_grad_(False)
    autoencoder.b_dec.normal_()
    autoencoder.b_enc.normal_()
    if sigma == "learned":
        autoencoder.W_var.normal_(std=0.3)
    if sigma == "closed_form":
        autoencoder.set_closed_form(torch.tensor(0.3), torch.tensor(2.0))
    x, mean, scale = samples(), torch.randn(6), torch.tensor(0.2)
    before = found(autoencoder, scale * (x - mean), Robustness(noise=[]))
    autoencoder.fold_input_scaling(mean, scale)
    after = found(autoencoder, x, Robustness(noise=[]))
    for name in ("explained_variance", "jaccard", "activity_changes"):
        assert after["posterior"][name] == pytest.approx(before["posterior"][name], abs=1e-4)
    assert after["posterior"]["jaccard"] != 1


# ----------------------------------------------------------------------- of a run


def test_a_run_and_itself(run: Path) -> None:
    subject = open_subject(str(run))
    settings = Robustness(max_tokens=240, against=[str(run), str(run)])
    scores = settings.scores(subject, untracked)
    x = torch.cat([subject.activations(tokens) for tokens in subject.held_out(240)])
    lost = float((x - subject.autoencoder(x)).double().square().sum()) / energy(x)
    assert scores.metrics["clean"]["explained_variance"] == pytest.approx(1 - lost, abs=1e-5)
    assert list(scores.metrics) == ["clean", "noise_0.05", "noise_0.1", "noise_0.3", "posterior", "stability"]
    same = {"mmcs": 1, "matched_cosine": 1, "shared": 1}
    assert scores.metrics["stability"] == pytest.approx(same, abs=1e-5)
    assert [one["against"] for one in scores.details] == [str(run), str(run)]
    assert scores.headline["MMCS"] == scores.metrics["stability"]["mmcs"]
    assert scores.headline["Jaccard, noise_0.3"] == scores.metrics["noise_0.3"]["jaccard"]


def test_dead_latents_are_compared_only_when_asked_for(run: Path, tmp_path: Path) -> None:
    subject = open_subject(str(run))
    other = open_subject(str(run)).autoencoder
    dead = torch.arange(96) >= 40
    other.b_enc[dead] = -1e9
    other.W_dec[dead] = subject.autoencoder.W_dec[:1]
    save(other, tmp_path)
    x = torch.cat([subject.activations(tokens) for tokens in subject.held_out(240)])
    alive = [(one.encode(x) != 0).any(0) for one in (subject.autoencoder, other)]
    for alive_only, kept in ((True, alive), (False, [torch.ones(96, dtype=torch.bool)] * 2)):
        a, b = (
            one.W_dec[mask] / one.W_dec[mask].norm(dim=-1, keepdim=True)
            for one, mask in zip((subject.autoencoder, other), kept, strict=True)
        )
        cosine = a @ b.T
        settings = Robustness(max_tokens=240, noise=[], against=[str(tmp_path)], alive_only=alive_only)
        measured = settings.scores(subject, untracked).metrics["stability"]["mmcs"]
        assert measured == pytest.approx(float(cosine.amax(0).mean() + cosine.amax(1).mean()) / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (Robustness(noise=[0.1, -1]), "noise is -1; it must be a share of the norm"),
        (Robustness(noise=[math.nan]), "noise is nan"),
        (Robustness(max_tokens=15), "max_tokens is 15; it must be at least one held-out sequence of 16 tokens"),
        (Robustness(against=["nowhere"]), "nowhere: no such file"),
    ],
)
def test_bad_settings(run: Path, settings: Robustness, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        settings.scores(open_subject(str(run)), untracked)


def test_another_width_is_refused(run: Path, tmp_path: Path) -> None:
    save(SparseAutoencoder(31, 8, ReLU()), tmp_path)
    with pytest.raises(InputError, match=r"against: .* has d_in 31, version_0 32"):
        Robustness(against=[str(tmp_path)]).scores(open_subject(str(run)), untracked)

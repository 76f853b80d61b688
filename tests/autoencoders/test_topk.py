"""Selections by count: how many, among whom, at which step; thresholds by hand."""

import math
from typing import Any

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import logistic
from torch import Tensor

import vsae_lightning as vl
from vsae_lightning.autoencoders.draw import Draw

ROWS, D_SAE = 6, 10


def scores(seed: int = 0) -> Tensor:
    """Mostly positive, so that positivity binds nowhere."""
    return torch.randn(ROWS, D_SAE, generator=torch.Generator().manual_seed(seed)) + 5


@pytest.mark.parametrize(("k", "lanes"), [(1, 1), (3, 1), (3, 2), (3, 3), (4, 6), (9, 2), (10, 2)])
def test_batch_topk_keeps_exactly_rows_times_k_of_every_lane(k: int, lanes: int) -> None:
    z = scores()
    active = vl.BatchTopK(k)(z, z, Draw(lanes=lanes)).dense() != 0
    for lane, part in zip(active.chunk(lanes), z.chunk(lanes), strict=True):
        best = set(part.flatten().argsort(descending=True)[: k * len(part)].tolist())
        assert set(lane.flatten().nonzero().flatten().tolist()) == best


def test_lanes_compete_only_within_themselves() -> None:
    """Two lanes in one batch are as each alone; the second would lose everything to the first."""
    first, second = scores(1) + 100, scores(2)
    both = torch.cat([first, second])
    sparsifier = vl.BatchTopK(3)
    together = sparsifier(both, both, Draw(lanes=2)).dense()
    alone = [sparsifier(part, part, Draw()).dense() for part in (first, second)]
    assert torch.equal(together, torch.cat(alone))
    assert (sparsifier(both, both, Draw()).dense()[ROWS:] != 0).sum() == 0


def test_batch_topk_never_keeps_what_is_not_positive() -> None:
    z = torch.tensor([[1.0, -1.0, 0.0], [-2.0, -3.0, 0.5]])
    assert vl.BatchTopK(2)(z, z, Draw()).dense().tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.5]]
    assert vl.BatchTopK(3)(z, z, Draw()).dense().tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.5]]


def test_batch_topk_selects_by_the_score_and_keeps_the_value() -> None:
    z, score = torch.tensor([[-7.0, 2.0], [3.0, 4.0]]), torch.tensor([[9.0, 1.0], [2.0, 8.0]])
    assert vl.BatchTopK(1)(z, score, Draw()).dense().tolist() == [[-7.0, 0.0], [0.0, 4.0]]


def test_batch_topk_in_evaluation_compares_with_the_threshold_row_by_row() -> None:
    sparsifier, z = vl.BatchTopK(2), scores() - 4
    sparsifier.threshold.value.fill_(1.3)
    f = sparsifier(z, z).dense()
    assert torch.equal(f, torch.where(z > 1.3, z, 0.0))
    assert len({int(n) for n in (f != 0).sum(1)}) > 1
    for row in range(ROWS):
        assert torch.equal(sparsifier(z[row : row + 1], z[row : row + 1]).dense()[0], f[row])
    louder = z.clone()
    louder[1:] *= 1000
    assert torch.equal(sparsifier(louder, louder).dense()[0], f[0])


def test_equal_scores_do_not_lower_the_number_selected() -> None:
    """As in bfloat16, where many scores are equal."""
    z = torch.tensor([[2.0, 2.0, 2.0], [1.0, 2.0, 0.0]])
    assert vl.BatchTopK(1)(z, z, Draw()).active_per_row().sum() == 2


@pytest.mark.parametrize("build", [vl.TopK, vl.BatchTopK, lambda k: vl.ProbabilisticTopK(k, temperature=1.0)])
def test_a_calibrated_threshold_keeps_k_of_fresh_rows(build: Any) -> None:
    """On rows of the same distribution, k latents are active on average."""
    sparsifier, generator = build(4), torch.Generator().manual_seed(0)
    parts = [torch.randn(1000, 50, generator=generator) for _ in range(5)]
    sparsifier.calibrate(parts, 5000)
    fresh = torch.randn(4000, 50, generator=generator)
    active = (fresh > sparsifier.threshold.value).sum(-1).float().mean().item()
    assert active == pytest.approx(4, rel=0.02)


def test_topk_by_magnitude_calibrates_magnitudes() -> None:
    sparsifier = vl.TopK(1, by="magnitude")
    sparsifier.calibrate([torch.tensor([[-5.0, 1.0], [2.0, -3.0]])], 2)
    assert sparsifier.threshold.value == 2.5  # 5 and 3 exceed it, 2 and 1 do not


ANNEALED = [(0, 8), (1, 7), (3, 6), (5, 5), (9, 3), (10, 2), (1000, 2)]  # 8 - 0.6 t, rounded, then 2


@pytest.mark.parametrize(("step", "k"), ANNEALED)
def test_k_falls_linearly(step: int, k: int) -> None:
    z, noise = scores(), torch.zeros(ROWS, D_SAE)
    options: dict[str, Any] = {"k": 2, "k_start": 8, "k_anneal_steps": 10}
    for sparsifier in (vl.TopK(**options), vl.TopK(**options, by="magnitude"), vl.BatchTopK(**options)):
        assert sparsifier(z, z, Draw(step)).active_per_row().sum() == ROWS * k
    probabilistic = vl.ProbabilisticTopK(temperature=1.0, **options)
    assert probabilistic(z, z, Draw(step, noise=noise)).active_per_row().tolist() == [k] * ROWS


def test_evaluation_has_the_final_k() -> None:
    z = scores()
    for sparsifier in (vl.TopK(2, k_start=8, k_anneal_steps=10), vl.ProbabilisticTopK(2, 1.0, 8, 10)):
        assert sparsifier(z, z).active_per_row().tolist() == [2] * ROWS
        assert sparsifier.target_l0(None) == 2
        assert sparsifier.target_l0(Draw(5)) == 5


def test_without_annealing_k_is_the_same_at_every_step() -> None:
    assert [vl.TopK(3).k_at(Draw(step)) for step in (0, 7)] == [3, 3]


@pytest.mark.parametrize(("difference", "temperature"), [(0.0, 1.0), (1.0, 1.0), (1.0, 0.5), (-2.0, 1.5), (0.3, 0.1)])
def test_probabilistic_selection_has_the_logistic_probability(difference: float, temperature: float) -> None:
    """Two latents, k = 1: the first wins when its noise is not below the second's by more than the difference."""
    n = 200_000
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(1))
    z = torch.tensor([[difference + 4, 4.0]]).expand(n, 2)
    share = (vl.ProbabilisticTopK(1, temperature)(z, z, Draw(noise=noise)).dense()[:, 0] != 0).double().mean().item()
    expected, _ = quad(lambda noise: logistic.pdf(noise) * logistic.cdf(difference / temperature + noise), -40, 40)
    assert share == pytest.approx(expected, abs=4 * math.sqrt(0.25 / n))


@pytest.mark.parametrize(("logit", "temperature"), [(0.5, 1.0), (-1.0, 0.4)])
def test_one_gate_alone_is_on_with_the_probability_of_its_logit(logit: float, temperature: float) -> None:
    """Against a latent without noise, P = sigmoid(difference / temperature)."""
    n = 200_000
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(2))
    noise[:, 1] = 0
    z = torch.tensor([[logit + 4, 4.0]]).expand(n, 2)
    share = (vl.ProbabilisticTopK(1, temperature)(z, z, Draw(noise=noise)).dense()[:, 0] != 0).double().mean().item()
    assert share == pytest.approx(1 / (1 + math.exp(-logit / temperature)), abs=4 * math.sqrt(0.25 / n))


def test_probabilistic_values_are_without_noise_and_evaluation_is_topk() -> None:
    z = scores() - 5
    noise = torch.randn(ROWS, D_SAE, generator=torch.Generator().manual_seed(3))
    sparsifier = vl.ProbabilisticTopK(4, 2.0)
    f = sparsifier(z, z, Draw(noise=noise)).dense()
    assert torch.equal(f[f != 0], z[f != 0])
    assert (f >= 0).all()
    assert torch.equal(sparsifier(z, z).dense(), vl.TopK(4)(z, z).dense())
    assert not torch.equal(f, sparsifier(z, z).dense())


@pytest.mark.parametrize("noise", [-40.0, 40.0])
def test_extreme_noise_stays_finite(noise: float) -> None:
    z = torch.tensor([[1.0, 2.0]])
    f = vl.ProbabilisticTopK(1, 1.0)(z, z, Draw(noise=torch.tensor([[noise, 0.0]]))).dense()
    assert f.tolist() == ([[0.0, 2.0]] if noise < 0 else [[1.0, 0.0]])


def test_gate_thresholds_by_hand() -> None:
    z = torch.tensor([[4.0, 1.0, 3.0, 2.0], [0.1, 0.2, 0.4, 0.3]])

    def threshold(sparsifier: vl.Sparsifier, draw: Draw | None) -> list[float]:
        values: list[float] = sparsifier.gate_threshold(z, sparsifier(z, z, draw), draw).flatten().tolist()
        return values

    assert threshold(vl.TopK(2), None) == [3.0, pytest.approx(0.3)]
    assert threshold(vl.TopK(1, k_start=3, k_anneal_steps=9), Draw(0))[0] == 2
    assert threshold(vl.BatchTopK(1), Draw()) == [3.0, 3.0]  # selected: 4, 3
    assert threshold(vl.BatchTopK(1), Draw(lanes=2)) == [4.0, pytest.approx(0.4)]


@pytest.mark.parametrize("build", [vl.TopK, vl.BatchTopK, lambda **k: vl.ProbabilisticTopK(temperature=1.0, **k)])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is 0; it must be at least 1"),
        ({"k": -2}, "k is -2"),
        ({"k": 4, "k_start": 3, "k_anneal_steps": 5}, "k_start is 3; it must be at least k, 4"),
        ({"k": 4, "k_start": 8}, "k_start is 8 and k_anneal_steps 0; give both, or neither"),
        ({"k": 4, "k_anneal_steps": 5}, "k_start is None and k_anneal_steps 5"),
        ({"k": 4, "k_start": 8, "k_anneal_steps": -1}, "k_anneal_steps -1"),
    ],
)
def test_bad_options_are_refused_by_name(build: Any, options: dict[str, int], message: str) -> None:
    with pytest.raises(vl.InputError, match=message):
        build(**options)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_bad_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(vl.InputError, match=f"ProbabilisticTopK: temperature is {temperature}"):
        vl.ProbabilisticTopK(3, temperature)


@pytest.mark.parametrize("sparsifier", [vl.BatchTopK(9), vl.ProbabilisticTopK(9, 1.0), vl.TopK(2, "value", 9, 5)])
def test_k_beyond_the_dictionary_is_refused(sparsifier: vl.Sparsifier) -> None:
    with pytest.raises(vl.InputError, match="k is 9, more than the 8 latents of d_sae"):
        vl.SparseAutoencoder(4, 8, sparsifier)

"""Recovery of a known dictionary, on matrices small enough to work out by hand."""

import math

import pytest
import torch
from torch import Tensor

from vsae_lightning.metrics import FeatureRecovery, MeanKL, SigmaCalibration, latent_units, match_latents

NONE = -1


def rows(*on: str, width: int = 3) -> Tensor:
    """One row per string, naming the columns that are on: "02" is columns 0 and 2."""
    codes = torch.zeros(len(on), width)
    for row, columns in enumerate(on):
        codes[row, [int(column) for column in columns]] = 0.5 + row
    return codes


def found(
    dictionary: Tensor, W_dec: Tensor, codes: Tensor, latents: Tensor, parents: list[int] | None = None
) -> dict[str, float]:
    truth = torch.tensor(parents or [NONE] * len(dictionary))
    metric = FeatureRecovery(match_latents(dictionary, W_dec), truth)
    metric.update(codes, latents)
    return {name: float(value) for name, value in metric.compute().items()}


# ----------------------------------------------------------------- directions


def test_cosines_by_hand() -> None:
    # Both features are nearest to the first decoder row: cosines (1, 0.8), (0.8, 0.28).
    dictionary = torch.tensor([[2.0, 0.0], [2.4, 3.2]])
    W_dec = torch.tensor([[3.0, 0.0], [0.8, -0.6]])
    cosine = torch.tensor([[1.0, 0.8], [0.6, 0.8 * 0.6 - 0.6 * 0.8]], dtype=torch.float64)
    matching = match_latents(dictionary, W_dec)
    torch.testing.assert_close(matching.cosine, cosine)
    values = found(dictionary, W_dec, rows("0", "1", width=2), rows("0", "1", width=2))
    assert values["mmcs"] == pytest.approx((1 + 0.6) / 2)
    # One to one: 1 + 0 is less than 0.8 + 0.6.
    assert values["mcc"] == pytest.approx((0.8 + 0.6) / 2)
    assert dict(zip(matching.features.tolist(), matching.latents.tolist(), strict=True)) == {0: 1, 1: 0}
    assert "absorbed_fraction" not in values


def test_cosines_are_signed() -> None:
    values = found(torch.eye(2), -torch.eye(2), rows("0", "1", width=2), rows("0", "1", width=2))
    assert values["mmcs"] == values["mcc"] == 0


def test_a_feature_without_a_latent_counts_as_not_found() -> None:
    values = found(torch.eye(3), torch.eye(3)[:2], rows("0", "1", "2"), rows("0", "1", "", width=2))
    for name in ("mmcs", "mcc", "firing_precision", "firing_recall", "firing_f1"):
        assert values[name] == pytest.approx(2 / 3)


def test_units_make_the_true_strength_the_nearest_multiple_of_the_decoder_row() -> None:
    torch.manual_seed(0)
    dictionary, W_dec, scale = 3 * torch.randn(4, 6), torch.randn(5, 6), torch.tensor(0.7)
    matching = match_latents(dictionary, W_dec)
    units = latent_units(matching, dictionary, W_dec, scale)
    for feature, latent, unit in zip(matching.features, matching.latents, units, strict=True):
        target = (scale * 2.5 * dictionary[feature])[:, None]
        nearest = torch.linalg.lstsq(W_dec[latent][:, None], target).solution
        assert float(2.5 * unit) == pytest.approx(float(nearest), rel=1e-5)


# --------------------------------------------------------------------- firing


def test_firing_of_the_matched_latents_by_hand() -> None:
    codes = rows("0", "0", "01", "1", "")
    latents = rows("0", "1", "0", "0", "1")
    # Feature 0: latent 0 fires in rows 0, 2, 3, the feature is on in 0, 1, 2. Feature 1: in 1, 4 and 2, 3.
    values = found(torch.eye(3), torch.eye(3), codes, latents)
    assert values["firing_precision"] == pytest.approx((2 / 3 + 0) / 2)  # feature 2 never occurs
    assert values["firing_recall"] == pytest.approx((2 / 3 + 0) / 2)
    assert values["firing_f1"] == pytest.approx((4 / 6 + 0) / 2)
    silent = found(torch.eye(3), torch.eye(3), codes, torch.zeros(5, 3))
    assert silent["firing_precision"] == silent["firing_recall"] == silent["firing_f1"] == 0


# Two latents near feature 0 (cosine 0.96 each), one at feature 1.
SPLIT = torch.tensor([[0.96, 0.0, 0.28], [0.96, 0.0, -0.28], [0.0, 1.0, 0.0]])


@pytest.mark.parametrize(
    ("latents", "expected"),
    [
        (("0", "0", "1", "1", "2"), 1 / 2),  # each has half of feature 0
        (("01", "01", "01", "01", "2"), 0),  # both have all of it
        (("01", "0", "0", "0", "2"), 0),  # one has all of it
        (("01", "0", "0", "1", "2"), 1 / 2),  # three quarters and half
        (("0", "0", "0", "1", "12"), 0),  # the second is as often wrong as right
        (("0", "0", "", "", "2"), 0),  # one alone
    ],
)
def test_split_features_by_hand(latents: tuple[str, ...], expected: float) -> None:
    values = found(torch.eye(3), SPLIT, rows("0", "0", "0", "0", "1"), rows(*latents))
    assert values["split_fraction"] == expected


def test_a_latent_that_points_elsewhere_is_no_part() -> None:
    W_dec = SPLIT.clone()
    W_dec[1] = torch.tensor([0.6, 0.0, 0.8])  # nearer to feature 2
    values = found(torch.eye(3), W_dec, rows("0", "0", "0", "0", "1"), rows("0", "0", "1", "1", "2"))
    assert values["split_fraction"] == 0


# Feature 0 is the parent of 1; 2 is that of 3.
FAMILIES = [NONE, 0, NONE, 2]


@pytest.mark.parametrize(
    ("latents", "expected"),
    [
        # Rows: parent 0 alone twice, with its child three times; parent 2 alone, with its child.
        (("0", "0", "01", "01", "01", "2", "23"), 0),
        (("0", "0", "01", "1", "1", "2", "23"), 1 / 2),  # with its child in one of three
        (("0", "", "1", "1", "1", "2", "3"), 1),  # alone in one of two
        (("", "", "1", "1", "1", "2", "23"), 0),  # its latent never fires: not found, not absorbed
        (("0", "0", "01", "01", "1", "2", "23"), 0),  # in two of three
    ],
)
def test_absorbed_parents_by_hand(latents: tuple[str, ...], expected: float) -> None:
    codes = rows("0", "0", "01", "01", "01", "2", "23", width=4)
    values = found(torch.eye(4), torch.eye(4), codes, rows(*latents, width=4), FAMILIES)
    assert values["absorbed_fraction"] == expected


def test_one_of_two_children_is_enough_to_absorb() -> None:
    codes = rows("0", "01", "01", "01", "02")
    # With child 1 the parent's latent fires in all rows, with child 2 in none: in 3 of 4 rows with a child.
    latents = rows("0", "01", "01", "01", "2")
    assert found(torch.eye(3), torch.eye(3), codes, latents, [NONE, 0, 0])["absorbed_fraction"] == 1


def random_firing(seed: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    codes = torch.rand(50, 4) * (torch.rand(50, 4) < 0.5)
    codes[:, 1] *= codes[:, 0] > 0
    codes[:, 3] *= codes[:, 2] > 0
    return codes, torch.rand(50, 7) * (torch.rand(50, 7) < 0.3)


def recovery_metric() -> FeatureRecovery:
    directions = torch.randn(11, 5, generator=torch.Generator().manual_seed(0))
    return FeatureRecovery(match_latents(directions[:4], directions[4:]), torch.tensor(FAMILIES))


def test_counts_add_up_over_batches_and_ranks() -> None:
    batches = [random_firing(seed) for seed in range(3)]
    whole, one, other = (recovery_metric() for _ in range(3))
    whole.update(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
    one.update(*batches[0])
    one.update(*batches[1])
    other.update(*batches[2])
    # As torchmetrics does it across ranks: the states of all are stacked and reduced.
    for name, reduce in one._reductions.items():
        assert callable(reduce)
        setattr(one, name, reduce(torch.stack([getattr(one, name), getattr(other, name)])))
    assert one.compute() == whole.compute()
    assert all(0 < value < 1 for name, value in whole.compute().items() if name.startswith("firing"))


def test_counts_are_those_of_a_loop() -> None:
    codes, latents = random_firing(9)
    metric = recovery_metric()
    metric.update(codes, latents)
    for i in range(4):
        for j in range(7):
            assert int(metric.joint[i, j]) == sum(bool(codes[r, i] and latents[r, j]) for r in range(50))
    for place, (parent, child) in enumerate([(0, 1), (2, 3)]):
        alone = [r for r in range(50) if codes[r, parent] and not codes[r, child]]
        assert int(metric.alone_features[place]) == len(alone)
        assert metric.alone_joint[place].tolist() == (latents[alone] != 0).sum(0).tolist()


# ------------------------------------------------------------------ posterior


def test_sigma_is_calibrated_where_the_truth_is_drawn_from_the_posterior() -> None:
    torch.manual_seed(0)
    mean, sigma = 3 + torch.randn(20_000, 3), torch.rand(20_000, 3) + 0.2
    truth = mean + sigma * torch.randn(20_000, 3)
    active = torch.rand(20_000, 3) < 0.4
    # What does not count may be anything: absent features, silent latents.
    truth[::5], mean[~active] = 0, 1e6
    for divisor, expected in ((1, 1.0), (2, 2.0), (0.5, 0.5)):
        metric = SigmaCalibration()
        metric.update(truth[:9000], mean[:9000], sigma[:9000] / divisor, active[:9000])
        metric.update(truth[9000:], mean[9000:], sigma[9000:] / divisor, active[9000:])
        assert float(metric.compute()) == pytest.approx(expected, rel=0.02)


def test_sigma_calibration_by_hand() -> None:
    metric = SigmaCalibration()
    ones = torch.ones(1, 2)
    metric.update(torch.tensor([[3.0, 5.0]]), ones, torch.tensor([[1.0, 4.0]]), ones.bool())  # errors 2 and 1 sigma
    metric.update(torch.tensor([[4.0, 0.0]]), ones, ones, ones.bool())  # 3 sigma, and an absent feature
    assert float(metric.compute()) == pytest.approx(math.sqrt((4 + 1 + 9) / 3))


def test_nothing_active_is_not_a_number() -> None:
    metric = SigmaCalibration()
    metric.update(torch.ones(2, 1), torch.ones(2, 1), torch.ones(2, 1), torch.zeros(2, 1, dtype=torch.bool))
    assert metric.compute().isnan()


def test_kl_is_the_mean_over_rows_not_over_batches() -> None:
    metric = MeanKL(2)
    metric.update(torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 3.0]]))
    metric.update(torch.tensor([[6.0, 1.0]]))
    assert metric.compute().tolist() == [3.0, 1.0]

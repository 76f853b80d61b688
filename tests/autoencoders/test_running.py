"""The running mean by hand, and over a long run."""

import pytest
import torch

from vsae_lightning.autoencoders.running import RunningMean


def test_at_first_the_plain_mean_and_the_initial_value_counts_for_nothing() -> None:
    mean = RunningMean(100.0)
    assert mean.value == 100
    for observed, expected in ((3.0, 3.0), (5.0, 4.0), (10.0, 6.0)):
        mean.update(torch.tensor(observed))
        assert mean.value.item() == pytest.approx(expected)
    assert mean.count == 3


def test_then_a_moving_average() -> None:
    mean, expected = RunningMean(0.0, rate=0.25), 0.0
    for n, observed in enumerate([4.0, 8.0, 1.0, 3.0, 7.0, -2.0, 5.0], 1):
        mean.update(torch.tensor(observed))
        share = 1 / n if n <= 4 else 0.25
        expected = (1 - share) * expected + share * observed
        assert mean.value.item() == pytest.approx(expected, abs=1e-6)


def test_it_follows_what_moves() -> None:
    mean = RunningMean(0.0)
    for _ in range(1000):
        mean.update(torch.tensor(1.0))
    for _ in range(500):
        mean.update(torch.tensor(2.0))
    assert mean.value.item() == pytest.approx(2 - 0.99**500, abs=1e-4)


def test_state_survives_a_checkpoint() -> None:
    mean, restored = RunningMean(0.0), RunningMean(7.0)
    for observed in (1.0, 2.0):
        mean.update(torch.tensor(observed))
    restored.load_state_dict(mean.state_dict())
    for one in (mean, restored):
        one.update(torch.tensor(6.0))
        assert one.value == 3

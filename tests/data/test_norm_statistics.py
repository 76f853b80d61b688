"""Norms out of proportion, counted by hand."""

import pytest
import torch

from vsae_lightning.data.statistics import norm_statistics


def test_massive_rows_are_counted_above_the_limit() -> None:
    """Medians of the lanes are 2 and 4 (the lower of two): the limit is 5 times 2."""
    lanes = [torch.tensor([[1.0], [2.0], [30.0]]), torch.tensor([[4.0], [10.0], [-4.0]])]
    found = norm_statistics(lanes, 5.0)
    assert (found.limit, found.rows, found.massive) == (10.0, 6, 1)
    assert found.largest == 15.0
    assert found.energy_share == pytest.approx(900 / (1 + 4 + 900 + 16 + 100 + 16))


def test_the_line_says_what_to_do() -> None:
    found = norm_statistics([torch.tensor([[1.0]] * 9 + [[200.0]])], 10.0)
    assert found.told(are_left_out=True).startswith(
        "1 of 10 activations have a norm above 10 times the median, 10 (lar"
    )
    assert found.told(are_left_out=True).endswith("to keep them: --data.max_norm_ratio null")
    assert found.told(are_left_out=False).endswith("to leave them out: --data.max_norm_ratio 10")

"""Noise of an evaluation."""

import pytest
import torch

from vsae_lightning.evaluation.noise import input_noise, standard_normal


def test_noise_is_a_share_of_the_norm_of_every_row() -> None:
    x = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [0.0, 10.0, 0.0]])
    weak, strong = (input_noise(x, share, seed=0, first_row=0) for share in (0.1, 0.5))
    assert weak.norm(dim=-1).tolist() == pytest.approx([0.5, 0, 1])
    torch.testing.assert_close(strong, 5 * weak)


def test_noise_has_no_favourite_direction() -> None:
    noise = input_noise(torch.ones(20_000, 4), 1.0, seed=3, first_row=0)  # of norm 2
    assert noise.mean(0).abs().max() < 0.03
    torch.testing.assert_close(noise.T @ noise / 20_000, torch.eye(4), atol=0.03, rtol=0)


def test_rows_keep_their_noise_in_any_batch() -> None:
    whole = standard_normal("test", 0, 0, 300, 5)
    assert torch.equal(torch.cat([standard_normal("test", 0, first, 75, 5) for first in range(0, 300, 75)]), whole)
    assert not torch.isclose(standard_normal("test", 1, 0, 300, 5), whole).any()
    assert not torch.isclose(standard_normal("other", 0, 0, 300, 5), whole).any()
    assert len(whole.flatten().unique()) > 1490  # no row is drawn twice

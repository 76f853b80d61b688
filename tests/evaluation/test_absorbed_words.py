"""Absorption, word by word, worked out by hand."""

import pytest
import torch

from vsae_lightning.evaluation.absorbed_words import absorption

ALONG = torch.tensor([5.0, 0.0, 0.0])  # of the probe; its length does not count
PARENT, CHILD, ACROSS, OBLIQUE = range(4)
W_dec = torch.zeros(7, 3)
W_dec[PARENT] = torch.tensor([1.0, 0.0, 0.0])
W_dec[CHILD] = torch.tensor([0.6, 0.8, 0.0])
W_dec[ACROSS] = torch.tensor([0.0, 0.0, 1.0])
W_dec[OBLIQUE] = torch.tensor([0.05, 0.0, (1 - 0.05**2) ** 0.5])
W_dec[4:] = W_dec[CHILD]


@pytest.mark.parametrize(
    ("projection", "active", "fraction", "full"),
    [
        (2.0, {PARENT: 2.0}, 0.0, False),  # M = 2 = p
        (3.0, {CHILD: 5.0}, 1.0, True),  # M = 0, A = 5 * 0.6 = p
        (4.0, {PARENT: 1.0, CHILD: 5.0}, 3 / 4, False),  # M = 1, A = 3
        (4.0, {PARENT: 1.0, CHILD: 10.0}, 3 / 4, False),  # M = 1, of A = 6 no more than p - M = 3 counts
        (3.0, {CHILD: 1.0}, 0.0, False),  # A = 0.6, less than 0.4 p
        (4.0, {OBLIQUE: 40.0}, 0.0, True),  # its cosine, 0.05, is enough to absorb wholly alone: 2 >= 0.4 p
        (4.0, {PARENT: 1.0, CHILD: 1.0, 4: 1.0, 5: 1.0, 6: 1.0}, 1.8 / 2.8, False),  # three of four absorbers count
        (4.0, {ACROSS: 9.0}, 0.0, False),
        (-1.0, {CHILD: 5.0}, 0.0, False),  # the activation points away from the probe
    ],
)
def test_a_word_by_hand(projection: float, active: dict[int, float], fraction: float, full: bool) -> None:
    latents = torch.zeros(1, 7)
    for latent, value in active.items():
        latents[0, latent] = value
    x = torch.tensor([[projection, 1.0, 2.0]])
    for scale in (1.0, 7.0):  # of the rows, whose direction alone counts
        fractions, is_full = absorption(x, latents, scale * W_dec, ALONG, [PARENT])
        assert float(fractions) == pytest.approx(fraction, abs=1e-6)
        assert bool(is_full) == full


def test_a_latent_of_the_feature_absorbs_nothing() -> None:
    latents = torch.zeros(1, 7)
    latents[0, CHILD] = 5.0
    fractions, is_full = absorption(torch.tensor([[3.0, 4.0, 0.0]]), latents, W_dec, ALONG, [PARENT, CHILD])
    assert (float(fractions), bool(is_full)) == (0.0, False)

"""The inference threshold of TopK, by hand."""

import pytest
import torch

import vsae_lightning as vl
from vsae_lightning.autoencoders.draw import Draw
from vsae_lightning.autoencoders.latents import DenseLatents
from vsae_lightning.autoencoders.threshold import InferenceThreshold


def test_moving_average_of_the_smallest_positive_by_hand() -> None:
    threshold = InferenceThreshold()
    assert threshold.value == -1
    threshold.update(torch.tensor([[3.0, 1.0], [0.0, 2.0], [0.0, 0.0]]))
    assert threshold.value == 1.5  # the first batch sets it; the row without activations does not count
    threshold.update(torch.tensor([[4.0, 8.0]]))
    assert threshold.value.item() == pytest.approx(0.999 * 1.5 + 0.001 * 4)


def test_batches_that_say_nothing_change_nothing() -> None:
    threshold = InferenceThreshold()
    threshold.update(torch.tensor([[0.0, -1.0]]))
    assert threshold.value == -1
    relu = vl.ReLU()  # dense latents have no such threshold
    relu.observe(torch.ones(2, 5), DenseLatents(torch.ones(2, 5)), Draw(), lambda local: local)
    assert not relu.state_dict()


def test_it_is_learned_from_what_evaluation_ranks() -> None:
    """The posterior mean where that selects, and the scores without the noise of the gates."""
    z, score = torch.tensor([[-7.0, 2.0, 5.0]]), torch.tensor([[9.0, 1.0, 3.0]])
    topk = vl.TopK(2)
    topk.observe(score, topk(z, score, Draw()), Draw(), lambda local: local)
    assert topk.threshold.value == 3
    draw = Draw(noise=torch.tensor([[-40.0, 40.0, 0.0]]))  # selects 1 and 2, though 0 and 2 are the largest
    gates = vl.ProbabilisticTopK(2, 1.0)
    gates.observe(score, gates(score, score, draw), draw, lambda local: local)
    assert gates.threshold.value == 3

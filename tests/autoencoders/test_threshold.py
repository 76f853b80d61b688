"""The inference threshold of TopK, by hand."""

import pytest
import torch

import vsae_lightning as vl
from vsae_lightning.autoencoders.draw import Draw
from vsae_lightning.autoencoders.latents import DenseLatents, SparseLatents
from vsae_lightning.autoencoders.threshold import InferenceThreshold


def sparse(values: list[list[float]]) -> SparseLatents:
    return SparseLatents(torch.tensor(values), torch.tensor([[0, 1]] * len(values)), 5)


def test_moving_average_of_the_smallest_positive_by_hand() -> None:
    threshold = InferenceThreshold()
    assert threshold.value == -1
    threshold.update(sparse([[3.0, 1.0], [0.0, 2.0], [0.0, 0.0]]))
    assert threshold.value == 1.5  # the first batch sets it; the row without activations does not count
    threshold.update(sparse([[4.0, 8.0]]))
    assert threshold.value.item() == pytest.approx(0.999 * 1.5 + 0.001 * 4)


def test_batches_that_say_nothing_change_nothing() -> None:
    threshold = InferenceThreshold()
    threshold.update(sparse([[0.0, -1.0]]))
    assert threshold.value == -1
    relu = vl.ReLU()  # dense latents have no such threshold
    relu.observe(torch.ones(2, 5), DenseLatents(torch.ones(2, 5)), Draw(), lambda local: local)
    assert not relu.state_dict()

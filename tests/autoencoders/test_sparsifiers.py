"""Selections by hand."""

from typing import Any

import pytest
import torch

from vsae_lightning import InputError, ReLU, SparseAutoencoder, TopK

Z = torch.tensor([[3.0, -5.0, 1.0, 2.0], [-1.0, -2.0, -3.0, 0.5]])


def test_relu_keeps_positive_values() -> None:
    assert ReLU()(Z, Z).dense().tolist() == [[3.0, 0.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.5]]


def test_topk_by_value_keeps_the_largest_and_cuts_negatives() -> None:
    assert TopK(2)(Z, Z).dense().tolist() == [[3.0, 0.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.5]]
    assert TopK(2)(Z, Z).active_per_row().tolist() == [2, 1]


def test_topk_by_magnitude_keeps_signs() -> None:
    assert TopK(2, by="magnitude")(Z, Z).dense().tolist() == [[3.0, -5.0, 0.0, 0.0], [0.0, -2.0, -3.0, 0.0]]


@pytest.mark.parametrize("k", [1, 4])
def test_topk_edges(k: int) -> None:
    expected = torch.zeros_like(Z)
    for row in range(2):
        for column in Z[row].argsort(descending=True)[:k]:
            expected[row, column] = Z[row, column].clamp_min(0)
    assert torch.equal(TopK(k)(Z, Z).dense(), expected)


@pytest.mark.parametrize("by", ["value", "magnitude"])
def test_gradient_reaches_selected_latents_alone(by: Any) -> None:
    z = Z.clone().requires_grad_()
    TopK(2, by=by)(z, z).dense().sum().backward()
    selected = TopK(2, by=by)(Z, Z).dense() != 0
    assert z.grad is not None
    assert torch.equal(z.grad, selected.float())


def test_bad_k_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="k is 0"):
        TopK(0)
    with pytest.raises(InputError, match="k is 9, more than the 8 latents"):
        SparseAutoencoder(4, 8, TopK(9))


def test_config_rebuilds_the_sparsifier() -> None:
    assert TopK(3, by="magnitude").config() == {
        "class_name": "TopK",
        "init_args": {"k": 3, "by": "magnitude", "k_start": None, "k_anneal_steps": 0},
    }
    assert ReLU().config() == {"class_name": "ReLU", "init_args": {}}

"""Selections and gradients over two ranks against the same on one; the ranks' part is in `support/sharded_runs.py`."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sharded_runs import problem
from vsae_lightning.autoencoders.sharding import WHOLE, local


@pytest.fixture(scope="module")
def found(sharded: Path) -> dict[str, Tensor]:
    of_ranks = [load_file(sharded / f"collectives-{rank}.safetensors") for rank in (0, 1)]
    for key, value in of_ranks[0].items():
        assert torch.equal(value, of_ranks[1][key])
    return of_ranks[0]


@pytest.mark.parametrize("k", [1, 5, 9, 12])
def test_the_k_largest_of_all_ranks_win(k: int, found: dict[str, Tensor]) -> None:
    """Six latents per rank, five values: equal scores in every row, and k beyond one rank's latents."""
    scores, won = problem()["scores"], found[f"won.{k}"]
    assert won.sum(-1).tolist() == [k] * 64
    selected = torch.where(won > 0, scores, -1.0).sort(-1, descending=True).values[:, :k]
    assert torch.equal(selected, scores.topk(k).values)


@pytest.mark.parametrize("k", [9, 12])
def test_of_equal_scores_the_first_win(k: int, found: dict[str, Tensor]) -> None:
    """Where every latent is offered, as by a stable sort."""
    order = problem()["scores"].sort(dim=-1, descending=True, stable=True).indices[:, :k]
    assert torch.equal(found[f"won.{k}"], torch.zeros(64, 12).scatter(1, order, 1.0))


def test_of_equal_scores_those_of_the_first_rank_win(found: dict[str, Tensor]) -> None:
    scores = problem()["scores"]
    smallest = scores.topk(5).values[:, -1:]
    wanted = 5 - (scores > smallest).sum(-1)
    first_rank = (scores[:, :6] == smallest).sum(-1).minimum(wanted)
    assert torch.equal((found["won.5"][:, :6] * (scores[:, :6] == smallest)).sum(-1).long(), first_rank)


def test_gradients_through_the_exchange(found: dict[str, Tensor]) -> None:
    given = problem()
    b, W, D = (given[name].requires_grad_() for name in ("b", "W", "D"))
    x_hat = ((given["x"] - b) @ W).relu() @ D + b
    expected = torch.autograd.grad((given["x"] - x_hat).pow(4).sum(), [b, W, D])
    for name, gradient in zip(("b", "W", "D"), expected, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-12, atol=1e-12)


def test_unsharded_nothing_is_exchanged() -> None:
    x = torch.randn(3, 4)
    for exchanged in (WHOLE.slice(x), WHOLE.gather(x), WHOLE.copy(x), WHOLE.sum(x), local(x)):
        assert exchanged is x

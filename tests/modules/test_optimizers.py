"""One pass over what lies in memory in any order is the step that torch takes; and it goes on where it was."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from vsae_lightning.errors import InputError
from vsae_lightning.modules.optimizers import OnePass, make_optimizer

Make = Callable[[list[nn.Parameter]], Optimizer]


def parameters() -> list[nn.Parameter]:
    """One by rows, one by columns, one vector, one that never has a gradient."""
    chance = torch.Generator().manual_seed(0)
    rows, columns, vector, idle = (torch.randn(shape, generator=chance) for shape in ((6, 4), (4, 6), (5,), (3, 2)))
    return [nn.Parameter(rows), nn.Parameter(columns.T.contiguous().T), nn.Parameter(vector), nn.Parameter(idle.T)]


def take_steps(weights: list[nn.Parameter], optimizer: Optimizer, one_pass: OnePass | None, steps: range) -> None:
    for step in steps:
        chance = torch.Generator().manual_seed(step)
        for weight in weights[:3]:
            gradient = torch.empty_like(weight)
            weight.grad = gradient.copy_(torch.randn(weight.shape, generator=chance))
        if one_pass is not None:
            one_pass.begin()
        optimizer.step()
        if one_pass is not None:
            one_pass.end()


def plain(weights: list[nn.Parameter]) -> list[Tensor]:
    return [weight.detach().clone() for weight in weights]


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"amsgrad": True}, {"maximize": True}])
@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_the_step_is_that_of_torch(kind: type[Adam], options: dict[str, Any]) -> None:
    expected, ours = parameters(), parameters()
    reference, optimizer = kind(expected, lr=0.1, **options), kind(ours, lr=0.1, **options)
    take_steps(expected, reference, None, range(6))
    take_steps(ours, optimizer, OnePass(optimizer), range(6))
    for mine, theirs, before in zip(ours, expected, parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-6)
        assert mine.stride() == before.stride()
        for name, value in optimizer.state[mine].items():
            torch.testing.assert_close(value, reference.state[theirs][name], rtol=0, atol=2e-6)
            assert name == "step" or value.stride() == mine.stride()


def test_after_loading_it_goes_on_bit_equal() -> None:
    whole, first = parameters(), parameters()
    uninterrupted, interrupted = Adam(whole, lr=0.1), Adam(first, lr=0.1)
    take_steps(whole, uninterrupted, OnePass(uninterrupted), range(6))
    take_steps(first, interrupted, OnePass(interrupted), range(3))
    state = interrupted.state_dict()
    for moments in state["state"].values():  # as a file has them that was written row by row
        moments.update({name: value.contiguous() for name, value in moments.items()})
    second = parameters()
    for weight, values in zip(second, plain(first), strict=True):
        weight.data.copy_(values)
    resumed = Adam(second, lr=0.1)
    one_pass = OnePass(resumed)
    resumed.load_state_dict(state)
    take_steps(second, resumed, one_pass, range(3, 6))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(second, whole, strict=True))


def test_a_step_without_gradients_changes_nothing() -> None:
    weights = parameters()
    optimizer = Adam(weights)
    one_pass = OnePass(optimizer)
    one_pass.begin()
    optimizer.step()
    one_pass.end()
    assert all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(weights, parameters(), strict=True))


def test_a_step_that_fails_leaves_everything_as_it_lay() -> None:
    weights = parameters()
    optimizer = Adam(weights)
    one_pass = OnePass(optimizer)
    take_steps(weights, optimizer, one_pass, range(1))
    before = plain(weights)
    one_pass.begin()
    assert weights[1].shape == (6, 4)  # by columns
    one_pass.end()
    assert all(torch.equal(weight, value) for weight, value in zip(weights, before, strict=True))
    assert [weight.grad.shape for weight in weights[:3] if weight.grad is not None] == [(6, 4), (4, 6), (5,)]
    assert all(
        value.stride() == weights[1].stride() for name, value in optimizer.state[weights[1]].items() if name[0] == "e"
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda weights: SGD(weights, lr=0.1),
        lambda weights: Adam(weights, foreach=True),
        lambda weights: Adam(weights, foreach=False),
        lambda weights: Adam(weights, fused=False),
    ],
)
def test_what_was_chosen_stays(make: Make) -> None:
    weights = parameters()
    optimizer = make(weights)
    before = dict(optimizer.param_groups[0])
    assert not OnePass(optimizer).columns
    assert optimizer.param_groups[0] == before


def test_the_default_is_adam_at_the_rate_of_the_size() -> None:
    optimizer = make_optimizer(None, parameters(), 2**12)
    assert isinstance(optimizer, Adam)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(4e-4)


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match=r"model.init_args.optimizer: Invalid learning rate: -1"):
        make_optimizer(lambda weights: Adam(weights, lr=-1), parameters(), 8)
    with pytest.raises(InputError, match="lr is inf; it must be a number"):
        make_optimizer(lambda weights: Adam(weights, lr=float("inf")), parameters(), 8)

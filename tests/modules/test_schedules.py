from typing import Any

import pytest
import torch

from vsae_lightning import InputError, WarmupDecay


def rates(steps: int, **options: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = WarmupDecay(optimizer, **options)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_warm_up_plateau_and_decay_by_hand() -> None:
    found = rates(10, warmup_steps=2, decay_fraction=0.4, total_steps=10)
    assert found == pytest.approx([1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.5, 1.0, 0.5])


def test_constant_without_warm_up_and_decay() -> None:
    assert rates(4, decay_fraction=0.0, total_steps=4) == [2.0] * 4
    assert rates(4, decay_fraction=0.5) == [2.0] * 4  # nothing to decay towards: the length is not known


def test_a_longer_run_goes_on_with_its_own_length() -> None:
    def build(total_steps: int) -> tuple[torch.optim.Optimizer, WarmupDecay]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
        return optimizer, WarmupDecay(optimizer, decay_fraction=0.5, total_steps=total_steps)

    optimizer, short = build(4)
    for _ in range(4):
        optimizer.step()
        short.step()
    assert optimizer.param_groups[0]["lr"] == 0.0
    optimizer, long = build(8)
    long.load_state_dict(short.state_dict())
    optimizer.step()
    long.step()
    assert optimizer.param_groups[0]["lr"] == 2.0 * (8 - 5) / 4


@pytest.mark.parametrize(
    ("options", "message"), [({"warmup_steps": -1}, "warmup_steps"), ({"decay_fraction": 1.5}, "1.5")]
)
def test_bad_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rates(1, **options)

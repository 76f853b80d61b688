"""What is logged, and at which steps."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from vsae_lightning.log_keys import is_logged


@pytest.mark.parametrize(
    ("every", "last", "expected"), [(5, 12, [5, 10, 12]), (6, 12, [6, 12]), (0, 7, [7]), (5, -1, [5, 10])]
)
def test_the_steps_of_the_logger_and_the_last_are_logged(every: int, last: int, expected: list[int]) -> None:
    trainer = cast("Any", SimpleNamespace(log_every_n_steps=every, max_steps=last))
    assert [steps for steps in range(1, 13) if is_logged(trainer, steps)] == expected

"""Which features have pages."""

import pytest

from vsae_lightning.dashboard.selection import selected
from vsae_lightning.errors import InputError


@pytest.mark.parametrize(
    ("features", "expected"),
    [(None, None), ("3", [3]), ("0-2,9", [0, 1, 2, 9]), (" 4 - 5 , 1,4", [1, 4, 5]), ("7-7", [7])],
)
def test_numbers_and_ranges(features: str | None, expected: list[int] | None) -> None:
    assert selected(features, 10) == expected


@pytest.mark.parametrize(
    ("features", "part"),
    [("", ""), ("1,,2", ""), ("10", "10"), ("3-10", "3-10"), ("5-4", "5-4"), ("-1", "-1"), ("a", "a"), ("1.5", "1.5"),
     ("0-2-4", "0-2-4"), ("\u0663", "\u0663"), ("9" * 30, "9" * 30)],
)  # fmt: skip
def test_nonsense_is_refused(features: str, part: str) -> None:
    with pytest.raises(InputError) as error:
        selected(features, 10)
    assert str(error.value) == (
        f"features: {part!r} is no feature and no range of them; they are 0 to 9, as in 0-99,512."
    )

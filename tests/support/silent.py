"""What shows nobody how far a loop is."""

from collections.abc import Iterable, Iterator
from typing import Any


def silent(items: Iterable[Any], total: int, what: str) -> Iterator[Any]:
    return iter(items)

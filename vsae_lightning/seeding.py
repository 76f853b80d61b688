"""Random streams that need no state: every seed is a function of what it is for."""

import hashlib
import os
from collections.abc import Iterator

import torch

GRANULE_ROWS = 64


def derive_seed(purpose: str, *numbers: int) -> int:
    """A 63-bit seed for one purpose and its coordinates, e.g. ("noise", seed, step, lane)."""
    key = ":".join([purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little") >> 1


def generator(device: torch.device | str, purpose: str, *numbers: int) -> torch.Generator:
    """A generator on `device` at the start of the stream of that purpose."""
    return torch.Generator(device).manual_seed(derive_seed(purpose, *numbers))


def global_seed() -> int:
    """The seed given to `seed_everything`, 0 if none was."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


def granules(first_row: int, rows: int) -> Iterator[tuple[int, slice, slice]]:
    """How rows [first_row, first_row + rows) of an endless sequence are made of granules of 64 rows.

    Random rows are drawn a whole granule at a time, from a generator of its own, so that a row is the same however
    the sequence is cut into batches.

    Yields:
        The number of a granule, which of its rows are wanted, and where they belong among the `rows`.
    """
    row = first_row
    while row < first_row + rows:
        granule, start = divmod(row, GRANULE_ROWS)
        stop = min(GRANULE_ROWS, start + first_row + rows - row)
        yield granule, slice(start, stop), slice(row - first_row, row - first_row + stop - start)
        row += stop - start

"""Which features have pages of their own."""

import re

from vsae_lightning.errors import InputError


def selected(features: str | None, d_sae: int) -> list[int] | None:
    """The features that `features` names, rising; None: all.

    Args:
        features: Numbers and ranges such as `0-99,512`, both ends of a range in it.
        d_sae: How many there are.

    Raises:
        InputError: It is no such list, or names one that there is not.
    """
    if features is None:
        return None
    found: set[int] = set()
    for part in features.split(","):
        ends = re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", part, re.ASCII)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if not first <= last < d_sae:
            raise InputError(
                f"features: {part!r} is no feature and no range of them; they are 0 to {d_sae - 1}, as in 0-99,512."
            )
        found.update(range(first, last + 1))
    return sorted(found)

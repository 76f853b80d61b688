"""The one exception for what a user can mend; the command line prints it as one line."""

import difflib
import math
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: the message names the option, the value, and what would be right."""


def input_error_behind(error: BaseException | None) -> InputError | None:
    """The `InputError` that an exception wraps: jsonargparse wraps what a constructor raises."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__
    return error


def did_you_mean(name: str, known: Iterable[str], limit: int = 3) -> str:
    """` Did you mean a, b?`, or nothing when no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=limit, cutoff=0.5)
    return f" Did you mean {', '.join(near)}?" if near else ""


def require_at_least(minimum: float, **values: float) -> None:
    """Raise `InputError` for the first value below `minimum` (or no finite number), by its option's name."""
    for name, value in values.items():
        if not minimum <= value < math.inf:
            raise InputError(f"{name} is {value}; it must be at least {minimum}{' and finite' * (value == math.inf)}.")

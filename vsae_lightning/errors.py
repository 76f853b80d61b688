"""The exceptions that the command line prints as one line: what a user can mend, and a run that was stopped."""

import difflib
import math
from collections.abc import Iterable
from signal import Signals

MAX_CHARACTERS = 2_000


class InputError(ValueError):
    """Bad input: the message names the option, the value, and what would be right.

    A message may quote a stranger's file, so it is kept to what a terminal can show (`printable`).
    """

    def __init__(self, message: object) -> None:
        super().__init__(printable(str(message)))


class RunStopped(Exception):  # noqa: N818, it is no error
    """A run that was asked to stop did so, at the same step on every rank.

    Args:
        why: The signal that asked for it, or what went wrong.
        step: Optimizer steps done.
    """

    def __init__(self, why: Signals | str, step: int) -> None:
        self.why = why
        self.status = 128 + why if isinstance(why, Signals) else 1
        reason = f"stopped by {why.name}" if isinstance(why, Signals) else why
        saved = "saved; go on with the same command and --ckpt_path last" if step else "nothing to save"
        super().__init__(printable(f"{reason} at step {step}: {saved}"))


def printable(text: str, limit: int = MAX_CHARACTERS) -> str:
    r"""A text for one line of any terminal: `\x1b` in place of a control character, and at most `limit` characters.

    Characters without a width, and those that change the direction of writing, are escaped too. A longer text is cut
    in its middle. What was made printable once stays as it is.
    """
    cut = len(text) > limit
    if cut:
        text = f"{text[: limit // 2]} ... {text[-limit // 4 :]}"
    if text.isprintable():
        return text
    shown = "".join(" " if c in "\t\n\r" else c if c.isprintable() else _escaped(c) for c in text)
    return shown if len(shown) <= limit else printable(shown, limit)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


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


def stop_signals() -> list[Signals]:
    """The signals that ask a run to stop, as far as this system has them: Windows has no SIGUSR1."""
    return [Signals[name] for name in ("SIGINT", "SIGTERM", "SIGUSR1") if name in Signals.__members__]

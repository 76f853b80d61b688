"""Files of strangers by the thousand: good ones are changed at random and read; each is refused in words or taken."""

import random
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from vsae_lightning.errors import InputError

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
WORDS = (
    b"class_path",
    b"init_args",
    b"os.system",
    b"null",
    b"-1",
    b"1e400",
    b"NaN",
    b"[[[[",
    b"{}",
    b"\x00",
    b"\xff\xfe",
    b"../",
    b"\xe2\x80\xae",
)


class Target(NamedTuple):
    """A reader, and the good file that is changed for it.

    Attributes:
        path: The file; the reader may look at others beside it.
        read: Reads what is there, to its end.
    """

    path: Path
    read: Callable[[], Any]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """A few random changes: bytes flipped, cut, doubled, or replaced by numbers and words that readers trip over."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        place = chance.randrange(len(changed) + 1)
        length = chance.choice((1, 2, 4, 8, 64, 1024))
        kind = chance.randrange(6)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[place : place + length] = b""
        elif kind == 2:
            changed[place:place] = changed[place : place + length] * chance.choice((1, 2, 50))
        elif kind == 3:
            size = chance.choice((1, 2, 4, 8))
            number = chance.choice(NUMBERS) % 256**size
            changed[place : place + size] = number.to_bytes(size, chance.choice(("little", "big")))
        elif kind == 4:
            word = chance.choice(WORDS)
            changed[place : place + chance.choice((0, len(word)))] = word
        else:
            del changed[place:]
    return bytes(changed)


def fuzz(target: Target, seed: int, times: int | None = None, seconds: float | None = None) -> Counter[str]:
    """Read changed files so often, or so long; the good file is back at the end.

    Returns:
        How many files were taken and how many refused.

    Raises:
        AssertionError: Something else than an `InputError` came out; the file is kept beside, as `NAME.failed`.
    """
    good, chance, outcomes, began = target.path.read_bytes(), random.Random(seed), Counter[str](), time.monotonic()
    try:
        while (times is None or outcomes.total() < times) and (seconds is None or time.monotonic() - began < seconds):
            content = mutated(good, chance)
            target.path.write_bytes(content)
            try:
                target.read()
                outcomes["taken"] += 1
            except InputError:
                outcomes["refused"] += 1
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                target.path.with_name(f"{target.path.name}.failed").write_bytes(content)
                raise AssertionError(f"{target.path.name}, file {outcomes.total()}: {traceback.format_exc()}") from None
    finally:
        target.path.write_bytes(good)
    return outcomes

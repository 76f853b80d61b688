"""The command line that every benchmark has: its sizes, --rounds, --threads, --out, --tiny."""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Options:
    """What was asked for: the settings of the contestants, where results go, and whether it is but a test."""

    settings: dict[str, Any]
    out: Path
    tiny: bool


def parse(description: str, defaults: dict[str, Any], tiny: dict[str, Any], argv: Sequence[str] | None) -> Options:
    """Read the command line.

    Args:
        description: Of the benchmark.
        defaults: Its settings; each is an option. A list is given with commas.
        tiny: What `--tiny` has instead: sizes that take a second, and whose figures mean nothing.
        argv: The arguments; None: those of the process.
    """
    parser = ArgumentParser(description=description)
    defaults = {**defaults, "threads": torch.get_num_threads()}
    for name, value in defaults.items():
        kind = _numbers if isinstance(value, list) else type(value)
        parser.add_argument("--" + name.replace("_", "-"), type=kind, metavar="N", help=f"default: {value}")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results")
    parser.add_argument("--tiny", action="store_true", help="sizes that take a second")
    given = vars(parser.parse_args(argv))
    out, is_tiny = given.pop("out"), given.pop("tiny")
    chosen = {name: value for name, value in given.items() if value is not None}
    return Options({**defaults, **(tiny if is_tiny else {}), **chosen}, out, is_tiny)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]

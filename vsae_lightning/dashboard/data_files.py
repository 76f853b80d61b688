"""Data of a report, as scripts: pages opened from a disk may load these, and nothing else."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vsae_lightning.files import replacing

DATA = "data"
DIGITS = 4
FINAL = {str, int, bool, type(None)}
ESCAPED = re.compile(r"\\(u003c|[\\'])")
Write = Callable[[str, Any], None]
"""`write(name, content)`: one more file of data."""


def writer(folder: Path) -> Write:
    """Of the report in `folder`."""

    def write(name: str, content: Any) -> None:
        write_data(folder, name, content)

    return write


def write_data(folder: Path, name: str, content: Any) -> None:
    """Write `data/NAME.js`, a call of `receive` with the name and the JSON text.

    JSON text in a string is parsed faster than a literal. Everything is ASCII, and `<` is escaped: nothing in a corpus
    can end the string or the script.
    """
    text = json.dumps(_plain(content), allow_nan=False, separators=(",", ":"))
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("<", "\\u003c")
    with replacing(folder / DATA / f"{name}.js") as temporary:
        temporary.write_text(f"receive({json.dumps(name)},'{escaped}');\n", encoding="ascii")


def read_data(folder: Path, name: str) -> Any:
    """What `write_data` wrote."""
    line = (folder / DATA / f"{name}.js").read_text(encoding="ascii")
    escaped = line[line.index("'") + 1 : line.rindex("'")]
    return json.loads(ESCAPED.sub(lambda found: "<" if found[1] == "u003c" else found[1], escaped))


def _plain(content: Any) -> Any:
    """As JSON has it: numbers with four digits, and null for one that is not finite."""
    if type(content) in FINAL:
        return content
    if type(content) is float:  # nearly everything
        return _rounded(content)
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return content if FINAL.issuperset(map(type, content)) else [_plain(value) for value in content]
    if hasattr(content, "tolist"):  # of numpy and torch
        return _plain(content.tolist())
    return content


def _rounded(number: float) -> float | None:
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else None

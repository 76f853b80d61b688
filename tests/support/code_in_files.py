"""Files that try to execute code when they are read: the code leaves a marker."""

import os
from pathlib import Path
from typing import Any

MARKER = "executed"


class Exploit:
    """Unpickled, it makes the file `executed` in the working folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {MARKER}",)


def write_module(folder: Path, name: str = "stranger") -> None:
    """A Python module that leaves the marker when it is imported, and has what a tampered file may name."""
    (folder / f"{name}.py").write_text(
        f"from pathlib import Path\nPath({MARKER!r}).touch()\n"
        "from torch.optim import Adam as Optimizer\nfrom vsae_lightning import SAE as Model, TopK, TopK as Sparsifier\n"
    )

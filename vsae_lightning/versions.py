"""The versions that a run or a report was made with."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "vsae_lightning",
    "torch",
    "lightning",
    "torchmetrics",
    "transformer-lens",
    "transformers",
    "datasets",
    "numpy",
)


def versions() -> dict[str, str | None]:
    """Of Python and of every package that decides numbers; None of one that is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

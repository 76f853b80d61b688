"""The latents that `vsae predict` writes: shards, and an index that says when they are whole."""

import json
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vsae_lightning.errors import InputError
from vsae_lightning.files import record, write_json

INDEX_FILE = "index.json"
PATTERN = "latents-*.safetensors"


def write_index(folder: Path) -> None:
    """Say which shards there are, with the size and the checksum of each; written last."""
    write_json(folder / INDEX_FILE, {"shards": {path.name: record(path) for path in sorted(folder.glob(PATTERN))}})


def read_latents(folder: str | Path) -> Iterator[dict[str, Tensor]]:
    """The shards of a folder of latents, in order, each as its tensors by name (see `LatentsWriter`).

    Raises:
        InputError: The folder was not written to its end, or a shard is missing or not what was written.
    """
    folder = Path(folder)
    try:
        shards = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))["shards"]
        known = {path.name for path in folder.glob(PATTERN)}
        torn = sorted(name for name in shards if name not in known or shards[name] != record(folder / name))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: holds no whole latents ({error!r}); run vsae predict again.") from None
    if torn:
        raise InputError(f"{folder / torn[0]}: not what vsae predict wrote; run it again.")
    for name in shards:
        try:
            yield load_file(folder / name)
        except SafetensorError as error:
            raise InputError(f"{folder / name}: not readable ({error}).") from None

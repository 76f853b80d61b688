"""What is known of an autoencoder, as it may be published: without this machine's folders, and without secrets."""

from pathlib import Path
from typing import Any

from vsae_lightning.origin import Origin
from vsae_lightning.provenance import is_on_hub

OF_THIS_MACHINE = {"cache_dir", "ckpt_path", "default_root_dir", "logger", "storage_options", "token"}
FILES = {"paths", "data_files", "data_dir"}
NAMES = {"model_name", "path"}


def public(origin: Origin) -> Origin:
    """The provenance and the training without options that are of this machine alone, and files by their names alone.

    Left out are cache_dir, ckpt_path, default_root_dir, logger, and the token and storage_options of a dataset. Of
    files, of absolute paths, and of a model or dataset that is no owner/name of the hub, the last part is kept.
    """
    return origin._replace(provenance=_public(origin.provenance), training=_public(origin.training))


def _public(value: Any, option: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _public(entry, _option(key, option)) for key, entry in value.items() if key not in OF_THIS_MACHINE}
    if isinstance(value, (list, tuple)):
        return [_public(entry, option) for entry in value]
    return _last_part(value) if isinstance(value, str) and _is_local(value, option) else value


def _option(key: Any, parent: str) -> str:
    """Of `data_files: {train: ...}`, the splits are files too."""
    return parent if parent in FILES else str(key)


def _is_local(value: str, option: str) -> bool:
    return option in FILES or value.startswith(("/", "~")) or (option in NAMES and not is_on_hub(value))


def _last_part(path: str) -> str:
    return Path(path).name or path

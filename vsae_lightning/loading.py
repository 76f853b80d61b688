"""Autoencoders from disk, of whatever origin: our runs, checkpoints and exports, and other libraries' folders."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch

from vsae_lightning.autoencoders import storage
from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.errors import InputError
from vsae_lightning.interop import dictionary_learning, saelens, sparsify
from vsae_lightning.origin import Origin, origin_of_run, read_json
from vsae_lightning.trust import trusted_packages

FOREIGN = (saelens, dictionary_learning, sparsify)


def load(
    path: str | Path,
    device: str | torch.device = "cpu",
    member: str | None = None,
    trust: str | Sequence[str] = (),
) -> SparseAutoencoder:
    """The autoencoder of a run or an export, in the units of the raw activations, frozen and in eval mode.

    No language model is loaded, no code of the file is executed, and the library that made it need not be there.

    Args:
        path: A run folder (its last checkpoint is read), a checkpoint, a folder written by `save` or `vsae export`;
            or one that SAELens (version 6 and later; standard, topk, jumprelu, gated), dictionary_learning, or
            sparsify (TopK; the folder of a hookpoint) wrote.
        device: Where the weights go.
        member: Which member of an ensemble; None for what is none.
        trust: Import names of packages of yours, such as ["mine"], whose classes the file may name: their code runs.

    Raises:
        InputError: Nothing is there, it is torn, or no autoencoder that can be expressed here, or an ensemble has no
            such member; or a class is of a package that is not trusted.
    """
    path, packages = Path(path), trusted_packages(trust)
    library = _library(path)
    if library is None:
        return storage.load(path, device, member, packages)
    if member is not None:
        raise InputError(f"member is {member!r}, but {path} is no ensemble; leave it out.")
    autoencoder: SparseAutoencoder = library.read(path)
    return autoencoder.to(device).requires_grad_(False)


def is_export(path: Path) -> bool:
    """Whether a path is the folder of an export, ours or foreign, not of a run."""
    return (path / storage.CONFIG_FILE).is_file() or _library(path) is not None


def origin_of(path: Path, member: str | None = None) -> Origin:
    """What is known of what `load` would give.

    Raises:
        InputError: The settings cannot be read, or name foreign code; or a checkpoint belongs to no run.
    """
    library = _library(path)
    if library is not None:
        found: Origin = library.origin(path)
        return found
    if (path / storage.CONFIG_FILE).is_file():
        return Origin.of_record(read_json(path / storage.CONFIG_FILE).get("origin"))
    return origin_of_run(path, member)


def _library(path: Path) -> ModuleType | None:
    """Of another library's folder, the file that reads it."""
    if (path / storage.CONFIG_FILE).is_file():
        return None
    found = next((library for library in FOREIGN if (path / library.WEIGHTS).is_file()), None)
    if found is None and (hookpoints := sorted(path.glob(f"*/{sparsify.WEIGHTS}"))):
        names = ", ".join(weights.parent.name for weights in hookpoints[:10])
        raise InputError(f"{path}: holds an autoencoder for each of the hookpoints {names}; give one of these folders.")
    return found

"""RUN, wherever a command takes one: a run folder, a checkpoint, an exported folder, or `last`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vsae_lightning.autoencoders.storage import load
from vsae_lightning.config_files import read_config
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.provenance import provenance_of_run
from vsae_lightning.runs import LOGS, newest_trained, run_of


def open_subject(run: str, member: str | None = None, device: str = "cpu", **changes: Any) -> Subject:
    """The autoencoder of RUN with what it was trained on.

    Args:
        run: A run folder, a checkpoint, an exported folder, or "last".
        member: Which member of an ensemble.
        device: Where it is evaluated.
        changes: Fields of `Provenance` that are not as in training; None: as in training.

    Raises:
        InputError: RUN is none, or the device does not exist.
    """
    path = newest_trained(LOGS) if run == "last" else Path(run)
    place = _device(device)
    autoencoder = load(path, place, member)
    folder = run_of(path)
    name = folder.resolve().name + (f"_{member}" if member else "")
    given = {name: value for name, value in changes.items() if value is not None}
    provenance = replace(provenance_of_run(path), **given)
    return Subject(name, folder, autoencoder, provenance, place, read_config(folder / "config.yaml"))


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device is {name!r}: {' '.join(str(error).split())[:200]}") from None
    return device

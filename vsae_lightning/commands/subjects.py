"""RUN, wherever a command takes one: a run folder, a checkpoint, an exported folder, or `last`."""

from pathlib import Path
from typing import Any

import torch

from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.loading import is_export, load, origin_of
from vsae_lightning.provenance import Provenance, is_public, require_language_model
from vsae_lightning.run_settings import acted_on, located
from vsae_lightning.runs import LOGS, newest_trained, run_of
from vsae_lightning.trust import told_trust
from vsae_lightning.trusted_text import require_harmless_text


def open_subject(
    run: str,
    member: str | None = None,
    device: str = "cpu",
    trust: str | None = None,
    trust_text: bool = False,
    **changes: Any,
) -> Subject:
    """The autoencoder of RUN with what it was trained on.

    Of another library's export that is no more than the language model, the hook and the length of sequences: the
    text is then the bundled one. A run or an export may be a stranger's, so its settings choose no folder to write to.
    An export chooses no local file either: a text that is neither the bundled one nor a dataset of the hub without
    `load_args` is passed over with a note.

    Args:
        run: A run folder, a checkpoint, an exported folder, or "last".
        member: Which member of an ensemble.
        device: Where it is evaluated.
        trust: Packages whose classes RUN may name, separated by commas.
        trust_text: Whether any text that a run names is read.
        changes: Fields of `Provenance` that are not as in training, or not known; None: as in training.

    Raises:
        InputError: RUN is none, its language model, hook or text is not known or not to be read, or the device does
            not exist.
    """
    path, packages = path_of(run), told_trust(trust or "")
    place = _device(device)
    autoencoder = load(path, place, member, packages)
    exported = is_export(path)
    folder = path if exported else run_of(path)
    origin = origin_of(path, member)
    if not exported:
        require_language_model(path, origin.training)
    given = {name: value for name, value in changes.items() if value is not None}
    known = (
        _of_export(origin.provenance, run) if exported else _of_run(origin.provenance, run, folder, trust_text)
    ) | given
    for name in ("model_name", "hook_name"):
        if name not in known:
            raise InputError(f"RUN: {run!r} does not say which {name} it is for; give --{name}.")
    name = folder.resolve().name + (f"_{member}" if member else "")
    provenance = Provenance.of_options(known, packages)
    return Subject(name, folder, autoencoder, provenance, place, origin.training, trust_text)


def path_of(run: str) -> Path:
    """Where RUN is."""
    return newest_trained(LOGS) if run == "last" else Path(run)


def _of_run(provenance: dict[str, Any], run: str, folder: Path, trust_text: bool) -> dict[str, Any]:
    """What of the data options of a run is acted on."""
    known = located(acted_on(provenance, run), folder)
    if not trust_text:
        require_harmless_text(known.get("text"), f"RUN: {run!r}: data.text")
    return known


def _of_export(provenance: dict[str, Any], run: str) -> dict[str, Any]:
    """What of the metadata of an export is acted on."""
    known = {name: value for name, value in provenance.items() if name != "cache_dir"}
    if isinstance(known.get("text"), dict) and not is_public(known["text"]):
        print(f"note: {run}: its text is not of the hub, and an export chooses no local files; the bundled one is read")
        known["text"] = None
    return known


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device is {name!r}: {' '.join(str(error).split())[:200]}") from None
    return device

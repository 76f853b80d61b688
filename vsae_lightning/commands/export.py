"""vsae export: an autoencoder in the format of another library, with a model card; and onto the hub."""

from pathlib import Path
from typing import Literal

from vsae_lightning.autoencoders import storage
from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.commands.subjects import path_of
from vsae_lightning.errors import InputError
from vsae_lightning.files import replacing_folder
from vsae_lightning.interop import dictionary_learning, hub, saelens
from vsae_lightning.interop.inference import deployed
from vsae_lightning.interop.model_card import model_card
from vsae_lightning.interop.public import public
from vsae_lightning.loading import load, origin_of
from vsae_lightning.origin import Origin
from vsae_lightning.provenance import KINDS
from vsae_lightning.trust import told_trust

Format = Literal["saelens", "dictionary_learning", "safetensors"]
CARD = "README.md"
FILES = {
    "saelens": (saelens.CONFIG, saelens.WEIGHTS),
    "dictionary_learning": (dictionary_learning.CONFIG, dictionary_learning.WEIGHTS),
    "safetensors": (storage.CONFIG_FILE, storage.WEIGHTS_FILE),
}


def export(
    run: str,
    directory: str,
    format: Format = "saelens",  # noqa: A002, the name of the option
    member: str | None = None,
    model_name: str | None = None,
    hook_name: str | None = None,
    push_to_hub: str | None = None,
    force: bool = False,
    trust: str | None = None,
) -> None:
    """Write an autoencoder for another library, which computes with it in evaluation what it computes here.

    A vSAE is written as its posterior mean; everything else that is known goes into the metadata, but for what is of
    this machine: no folder, logger or token of the training's configuration, and of local files the names alone.

    Args:
        run: A run folder, a checkpoint, an exported folder of ours or of another library, or `last`.
        directory: Where to; a folder that is not there, or empty.
        format: saelens, dictionary_learning, or safetensors: ours, which keeps all of a vSAE.
        member: Which member of an ensemble.
        model_name: The language model, where it is not known, or by another name than in training.
        hook_name: The hook, where it is not known.
        push_to_hub: A name on the Hugging Face hub, owner/name, to upload the folder to; what is made there is public,
            unless the owner's settings say otherwise.
        force: Replace an export that is there already.
        trust: Packages of yours whose classes RUN may name, separated by commas: their code runs.
    """
    path, folder = path_of(run), Path(directory)
    _require_free(folder, force)
    if push_to_hub is not None:
        hub.require_ready(push_to_hub)
    autoencoder = load(path, member=member, trust=told_trust(trust or ""))
    origin = _known(origin_of(path, member), autoencoder, model_name, hook_name)
    written = autoencoder if format == "safetensors" else deployed(autoencoder)
    with replacing_folder(folder, stale=_stale(folder)) as temporary:
        if format == "safetensors":
            storage.save(written, temporary, origin._asdict())
        else:
            {"saelens": saelens, "dictionary_learning": dictionary_learning}[format].write(temporary, written, origin)
        card = model_card(autoencoder, origin, format, push_to_hub, member)
        (temporary / CARD).write_text(card, encoding="utf-8")
    print(f"exported: {folder}, in the format of {format}")
    if format == "dictionary_learning" and not dictionary_learning.can_have_unit_rows(written):
        print("note: its decoder rows differ in norm, and its TopK depends on that; loaders of SAEBench will refuse it")
    if push_to_hub is not None:
        print(f"uploaded: {hub.push(folder, [*FILES[format], CARD], push_to_hub)}")


def _known(origin: Origin, autoencoder: SparseAutoencoder, model_name: str | None, hook_name: str | None) -> Origin:
    """What is known, with what was given, as it may be published."""
    given = {"model_name": model_name, "hook_name": hook_name}
    known = origin.provenance | {name: value for name, value in given.items() if value is not None}
    provenance = {name: known[name] for name in KINDS if name in known}
    return public(origin._replace(provenance=provenance, autoencoder=origin.autoencoder or autoencoder.config()))


def _require_free(folder: Path, force: bool) -> None:
    """Refuse to write over anything but, with `force`, an export."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"DIR: {str(folder)!r} is a file; give a folder.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not _stale(folder):
        raise InputError(f"DIR: {str(folder)!r} holds files, and is no export; give another folder.")
    if not force:
        raise InputError(f"DIR: {str(folder)!r} holds an export; give another folder, or --force to replace it.")


def _stale(folder: Path) -> tuple[str, ...]:
    """The files of the exports in a folder, descriptions before weights."""
    whole = [pair for pair in FILES.values() if all((folder / name).is_file() for name in pair)]
    return tuple(name for pair in whole for name in pair)

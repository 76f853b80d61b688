"""Which code a file of a stranger may name: settings of a run folder, hyper-parameters of a checkpoint.

jsonargparse imports whatever a `class_path` names, and importing is executing. So what a user did not type is
looked through first: it may name classes of this package, of torch.optim and of lightning.pytorch alone.
"""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import vsae_lightning
from vsae_lightning.config_files import read_config
from vsae_lightning.errors import InputError

PACKAGES = ("vsae_lightning", "torch.optim", "lightning.pytorch")
# Options whose value is text whatever it looks like: names of models and hooks, files, columns.
PLAIN = frozenset(
    {
        "cache_dir",
        "ckpt_path",
        "column",
        "data_files",
        "default_root_dir",
        "dirpath",
        "filename",
        "folder",
        "held_out_split",
    }
    | {"hook_name", "load_args", "model_name", "name", "path", "paths", "prefix", "revision", "save_dir", "separator"}
    | {"split", "sub_dir", "version"}
)
# Elsewhere, as in `members`, a user chooses the names.
PLACES_OF_PLAIN = frozenset({"", "init_args", "latents", "trainer"})
INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"
HARMLESS = re.compile(r"[\w :+,-]{0,100}")


def require_trusted_run(config: Path) -> None:
    """Refuse the settings of a run folder that name code of elsewhere; nothing of it is imported for this.

    Raises:
        InputError: They do, or are no settings at all.
    """
    name = untrusted(read_config(config), config.parent)
    if name is not None:
        raise InputError(
            f"RUN: {str(config)!r} names {name!r}, which is not of {', '.join(PACKAGES)}: a stranger's run could "
            f"execute its code here. If it is your own class, give --config {config} "
            f"--ckpt_path {config.parent / 'checkpoints' / 'last.ckpt'} yourself."
        )


def require_trusted_module(checkpoint: Path, hyper_parameters: dict[str, Any], own: str) -> None:
    """Refuse hyper-parameters that name code of elsewhere than the packages, other than the class `own`.

    Raises:
        InputError: They do.
    """
    named = dict(hyper_parameters)
    how = named.pop("_instantiator", INSTANTIATOR)
    if named.get("_class_path") == own:
        del named["_class_path"]
    name = untrusted({"init_args": named}) if how == INSTANTIATOR else how
    if name is not None:
        raise InputError(
            f"{checkpoint}: its hyper-parameters name {name!r}, which is not of {', '.join(PACKAGES)}; it could "
            "execute code here. If it is your own, give it as a keyword argument."
        )


def untrusted(settings: Any, folder: Path = Path()) -> str | None:
    """The first value that names code of elsewhere, or could be read as a file that does; None if all is well.

    Args:
        settings: Mappings, lists and plain values, as YAML gives them.
        folder: Where relative file names of the settings start, besides the working folder.
    """
    for option, plain, value in _strings(settings, "", False):
        ours = _is_ours(value)
        if not (ours if option == "class_path" else ours or plain or _is_a_word(value, folder)):
            return value
    return None


def _strings(value: Any, option: str, plain: bool) -> Iterator[tuple[str, bool, str]]:
    """Every string with the option it is given for (that of a list's entries is the list's), and if it is plain."""
    if isinstance(value, dict):
        for key, entry in value.items():
            name = str(key).rpartition(".")[2].lstrip("_")
            yield from _strings(entry, name, plain or (name in PLAIN and option in PLACES_OF_PLAIN))
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _strings(entry, option, plain)
    elif isinstance(value, str):
        yield option, plain, value


def _is_ours(name: str) -> bool:
    """Whether a name is that of a public class here, or of a class that one of the packages defines."""
    if name in vsae_lightning.__all__:
        return True
    module, _, last = name.rpartition(".")
    if not _is_inside(module):
        return False
    try:
        found = getattr(import_module(module), last)
    except (ImportError, AttributeError):
        return False
    # What a module has imported itself, such as os, can be reached through it, but has another home.
    return isinstance(found, type) and _is_inside(found.__module__)


def _is_inside(module: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in PACKAGES)


def _is_a_word(value: str, folder: Path) -> bool:
    """Whether a value is neither an import path nor a file of settings."""
    if HARMLESS.fullmatch(value) is None:
        return False
    return not any((place / value).is_file() for place in (Path(), folder))

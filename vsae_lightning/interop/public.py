"""What may be published: settings, commands and texts without this machine's folders, its user, and secrets."""

import getpass
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from vsae_lightning.origin import Origin
from vsae_lightning.provenance import is_on_hub
from vsae_lightning.redaction import redacted

OF_THIS_MACHINE = frozenset(
    {"cache_dir", "ckpt_path", "command", "default_root_dir", "logger", "storage_options", "token"}
)
FILES = frozenset({"paths", "data_files", "data_dir"})
NAMES = frozenset({"model_name", "path"})
START = r"(?:file:/*|~[\w.-]*[\\/]|/+|[A-Za-z]:[\\/]+|\\\\)"
WHOLE = re.compile(rf"(?:{START}|~)[^\n]*")
# Within a text: in quotes, where it may have blanks, or up to the next blank. The // of a URL starts no path.
INSIDE = re.compile(
    rf"(?<=')(?:{START})(?=[\w.~])[^'\n]*(?=')"
    rf"|(?<=\")(?:{START})(?=[\w.~])[^\"\n]*(?=\")"
    rf"|(?<![\w.~/<\\-])(?!(?<=:)//){START}(?=[\w.~])[^\s\"'<>|,;()]*"
)
SEPARATORS = re.compile(r"[\\/]+")


def public(origin: Origin) -> Origin:
    """What is known of an autoencoder, as it may be published; see `public_value`."""
    return Origin(*(public_value(part) for part in origin))


def public_value(value: Any, option: str = "") -> Any:
    """Nested plain values without secrets, without options that are of this machine alone, and files by their names.

    Left out are cache_dir, ckpt_path, command, default_root_dir, logger, and the token and storage_options of a
    dataset. The last part is kept of files, of a model or dataset that is no owner/name of the hub, of every absolute
    path, also within a text, and of every path with the name of the user in it.

    Args:
        value: The values.
        option: The name of the option that has them.
    """
    return _public(redacted(value), option)


def is_of_this_machine(option: str) -> bool:
    """Whether an option, by its dotted name, is never published."""
    return not OF_THIS_MACHINE.isdisjoint(option.split("."))


def public_place(path: Path) -> str:
    """A run folder, or a checkpoint in one, as a command may name it in public: from the working folder if it is in
    there, else from the folder of the runs."""
    whole = path.absolute()
    if whole.is_relative_to(Path.cwd()) and not _names_user(whole.relative_to(Path.cwd()).parts):
        return str(whole.relative_to(Path.cwd()))
    below = whole.parts[-3:] if whole.parent.name == "checkpoints" else whole.parts[-1:]
    return os.path.join(*(_last_part(part) for part in below))  # noqa: PTH118


def _public(value: Any, option: str) -> Any:
    if isinstance(value, dict):
        return {
            _public_key(key): _public(entry, _option(key, option))
            for key, entry in value.items()
            if not is_of_this_machine(str(key))
        }
    if isinstance(value, (list, tuple)):
        return [_public(entry, option) for entry in value]
    return _public_text(value, option) if isinstance(value, str) else value


def _public_key(key: Any) -> Any:
    return INSIDE.sub(lambda found: _last_part(found[0]), key) if isinstance(key, str) else key


def _option(key: Any, parent: str) -> str:
    """Name the option that decides: splits of `data_files: {train: ...}` are files too; flat names are dotted."""
    return parent if parent in FILES else str(key).rpartition(".")[2]


def _public_text(text: str, option: str) -> str:
    is_hub_name = option in NAMES and is_on_hub(text)
    if is_hub_name:
        return text
    if option in FILES | NAMES or WHOLE.fullmatch(text):
        return _last_part(text)
    for home in _homes():
        text = re.sub(rf"{re.escape(home)}(?=[\\/])", "~", text)
    text = INSIDE.sub(lambda found: _last_part(found[0]), text)
    parts = SEPARATORS.split(text)
    return _last_part(text) if len(parts) > 1 and _names_user(parts) else text


def _last_part(path: str) -> str:
    last = SEPARATORS.split(path.rstrip("\\/"))[-1] or path
    return "~" if _names_user([last.lstrip("~")]) or last.startswith("~") else last


def _names_user(parts: Iterable[str]) -> bool:
    return not _user_names().isdisjoint(parts)


def _home() -> str:
    return _home_of(os.environ.get("HOME"), os.environ.get("USERPROFILE"))


@lru_cache(maxsize=4)
def _home_of(*environment: str | None) -> str:
    """What `environment` decides; asked for once, since a text can have a path in every line."""
    try:
        return str(Path.home())
    except RuntimeError:  # a container whose user has none
        return "/"


def _homes() -> set[str]:
    found = {_home(), os.path.realpath(_home())}
    return {home for home in found if len(Path(home).parts) > 1}


def _user_names() -> frozenset[str]:
    return _names_of(_home(), os.environ.get("LOGNAME"), os.environ.get("USER"))


@lru_cache(maxsize=4)
def _names_of(home: str, *environment: str | None) -> frozenset[str]:
    """The login name and the last part of the home folder; the rest tells when they have changed."""
    try:
        login = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container whose user has no entry
        login = ""
    return frozenset({login, Path(home).name}) - {""}

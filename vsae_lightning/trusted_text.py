"""Which text of a stranger's run is read: none that would show a user's own files, or call an address of the stranger.

A run folder names its text. A stranger can name any file of the user there, and the report would show its content. The
author of a run knows more than its names: the key of its token store, in run.json, is a hash of the path, the size and
the time of every file. Files that do not give the same key are not those that the run was trained on.
"""

import os
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

from vsae_lightning.data.text import HuggingFaceText, TextFiles
from vsae_lightning.errors import InputError
from vsae_lightning.origin import read_json
from vsae_lightning.provenance import is_on_hub

MAX_LINKS = 3
LOAD_ARGS = ("data_files", "data_dir")
OF_THE_HUB = ("hf://", "https://huggingface.co/")


def require_harmless_text(text: Any, place: str) -> None:
    """Refuse a text whose loading does more than to read a dataset of the hub or local files.

    Args:
        text: `class_path` and `init_args`, as YAML has them; None: the bundled text.
        place: What is named in an error.

    Raises:
        InputError: It names an address outside the hub, or further arguments of `datasets.load_dataset`.
    """
    options = _options(text)
    for pattern in _texts([options.get("paths"), options.get("load_args")]):
        _require_modest_glob(pattern, place)
    if _name(text) == HuggingFaceText.__name__:
        _require_harmless_dataset(str(options.get("path")), options.get("load_args") or {}, place)


def _require_harmless_dataset(path: str, load_args: Any, place: str) -> None:
    files = load_args.get("data_files") if isinstance(load_args, dict) else None
    if not isinstance(load_args, dict) or not _is_files(files):
        raise InputError(f"{place}.load_args: data_files must be names, or names by split; it is {str(files)[:40]!r}.")
    for name in load_args:
        if name not in LOAD_ARGS or (name == "data_dir" and path in HuggingFaceText.LOADERS):
            raise _refused(
                f"{place}.load_args.{name}", "this argument of load_dataset can write files or call addresses"
            )
    for address in _texts([load_args, path]):
        if "::" in address or ("://" in address and not address.startswith(OF_THE_HUB)):
            raise _refused(f"{place}: {address!r}", "it is an address outside the Hugging Face hub")
    if path in HuggingFaceText.LOADERS and not files:
        raise _refused(f"{place}.path {path!r}", "without data_files it reads the working folder")
    if path not in HuggingFaceText.LOADERS and not is_on_hub(path):
        _require_plain_folder(path, place)
    for file in _texts(load_args):
        _require_inside(file, path, place)


def _is_files(files: Any) -> bool:
    groups = list(files.values()) if isinstance(files, dict) else [files]
    names = [name for group in groups for name in (group if isinstance(group, list) else [group])]
    return all(isinstance(name, str | None) for name in names)


def _require_plain_folder(path: str, place: str) -> None:
    """Refuse what is no folder here, and a folder with links, which `datasets` follows and the key does not cover."""
    try:
        is_plain = not path.startswith("~") and Path(path).is_dir()
        linked = is_plain and any(file.is_symlink() for file in (Path(path), *Path(path).rglob("*")))
    except OSError:
        is_plain = linked = False
    if not is_plain or linked:
        why = "a link in it can lead to a file of yours" if linked else "it is neither owner/name nor a folder here"
        raise _refused(f"{place}.path {path!r}", why)


def _require_modest_glob(pattern: str, place: str) -> None:
    """Refuse `**` where links multiply the folders to look through: a few that lead in circles never end."""
    base, stars, _ = pattern.partition("**")
    if not stars or "://" in pattern:
        return
    root = Path(base).expanduser() if base.endswith("/") or not base else Path(base).expanduser().parent
    links = 0
    for folder, names, _ in os.walk(root):
        linked = [Path(folder, name) for name in names if Path(folder, name).is_symlink()]
        links += len(linked)
        in_circles = any(Path(folder).resolve().is_relative_to(link.resolve()) for link in linked)
        if links > MAX_LINKS or in_circles:
            raise _refused(f"{place}: {pattern!r}", "linked folders would be looked through again and again")


def _require_inside(file: str, path: str, place: str) -> None:
    """Refuse a file that is not of the dataset, or that the key of the token store would not cover."""
    if path in HuggingFaceText.LOADERS:
        if "://" not in file and not glob(file, recursive=True):  # noqa: PTH207, as the text itself finds its files
            raise _refused(f"{place}: {file!r}", "there is no such file")
    elif file.startswith(("/", "~")) or ".." in Path(file).parts:
        raise _refused(f"{place}: {file!r}", "it is outside the dataset")


def reads_local_files(text: Any) -> bool:
    """Whether a text is of files on this machine."""
    name, options = _name(text), _options(text)
    if name == TextFiles.__name__:
        return True
    if name != HuggingFaceText.__name__ or is_on_hub(str(options.get("path"))):
        return False
    files = [*_texts(options.get("load_args") or {})]
    return not files or not all(file.startswith(OF_THE_HUB) for file in files)


def files_named(text: Any) -> list[str]:
    """The names of files and datasets in a text, in order."""
    options = _options(text)
    return list(_texts([options.get("paths"), options.get("path"), options.get("load_args")]))


def require_files_of_training(run: str, key_here: str, key_of_training: Any) -> None:
    """Refuse local files that are not those that a run was trained on.

    Args:
        run: RUN, as it was given.
        key_here: The key of the token store of the files that are here.
        key_of_training: The one that the run wrote down, if it did.

    Raises:
        InputError: The keys differ.
    """
    if key_here != key_of_training:
        raise _refused(
            f"RUN: {run!r} names local text files",
            "they are not those of its training (changed, moved, or of another machine)",
        )


def store_of_training(folder: Path) -> dict[str, Any]:
    """What a run's run.json says of the token store that it was trained on: its `key` and `sha256`; {} where nothing.

    Raises:
        InputError: The file cannot be read.
    """
    record = read_json(folder / "run.json") if (folder / "run.json").is_file() else {}
    store = record.get("token_store")
    return store if isinstance(store, dict) else {}


def _refused(what: str, why: str) -> InputError:
    return InputError(f"{what}, which are not read for a run folder: {why}. If you trust the run, give --trust_text.")


def _name(text: Any) -> str:
    found = text if isinstance(text, dict) else {}
    return str(found.get("class_path")).rpartition(".")[2]


def _options(text: Any) -> dict[str, Any]:
    options = text.get("init_args") if isinstance(text, dict) else None
    return options if isinstance(options, dict) else {}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list | tuple):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _texts(entry)
    elif isinstance(value, str):
        yield value

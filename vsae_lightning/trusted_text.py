"""Which text of a stranger's run is read: none that would show a user's own files, or call an address of the stranger.

A run folder names its text. A stranger can name any file of the user there, and the report would show its content. The
author of a run knows more than its names: the key of its token store, in run.json, is a hash of the path, the size and
the time of every file. Files that do not give the same key are not those that the run was trained on.
"""

from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

from vsae_lightning.data.text import HuggingFaceText, TextFiles
from vsae_lightning.errors import InputError
from vsae_lightning.origin import read_json
from vsae_lightning.provenance import is_on_hub

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
    if _name(text) != HuggingFaceText.__name__:
        return
    path, load_args = str(_options(text).get("path")), _options(text).get("load_args") or {}
    if not isinstance(load_args, dict):
        raise InputError(f"{place}.load_args must be `option: value` lines; it is {str(load_args)[:40]!r}.")
    for name in load_args:
        if name not in LOAD_ARGS or (name == "data_dir" and path in HuggingFaceText.LOADERS):
            raise _refused(
                f"{place}.load_args.{name}", "this argument of load_dataset can write files or call addresses"
            )
    for address in _texts([load_args, path]):
        if "::" in address or ("://" in address and not address.startswith(OF_THE_HUB)):
            raise _refused(f"{place}: {address!r}", "it is an address outside the Hugging Face hub")
    if path.startswith("~"):
        raise _refused(f"{place}.path {path!r}", "it is a folder of yours")
    for file in _texts(load_args):
        _require_inside(file, path, place)


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


def key_of_training(folder: Path) -> Any:
    """The key of the token store that a run was trained on; None where its run.json does not have it.

    Raises:
        InputError: The file cannot be read.
    """
    record = read_json(folder / "run.json") if (folder / "run.json").is_file() else {}
    store = record.get("token_store")
    return store.get("key") if isinstance(store, dict) else None


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

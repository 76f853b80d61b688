"""Where text comes from: documents, each of which is held out or not."""

import hashlib
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from glob import escape, glob
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

from vsae_lightning.data.hub import require_available
from vsae_lightning.data.readers import MAX_DOCUMENT, Nulls, read_documents
from vsae_lightning.errors import InputError, did_you_mean
from vsae_lightning.redaction import redacted, without_removed

BUNDLED = Path(__file__).parent / "bundled"


# A loader that unpickles, one whose options name classes to import, and an option that runs a dataset's own script,
# in some versions of `datasets`.
EXECUTES = {"pandas", "iceberg", "trust_remote_code"}


class Document(NamedTuple):
    text: str
    held_out: bool


class TextSource(ABC):
    """Documents in a fixed order, each held out for evaluation or not."""

    @abstractmethod
    def documents(self) -> Iterator[Document]:
        """All documents, from the first; held-out ones are never trained on."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Plain values that change whenever the documents may."""

    def tail_fraction(self) -> float | None:
        """How much of the end is held out where no document is, as with one long document; None: nothing is."""
        return None


class BundledText(TextSource):
    """Shakespeare, Milton and the King James Bible: 15 million characters in the public domain.

    Whole works are held out, and the bundled model has never seen them either.
    """

    def documents(self) -> Iterator[Document]:
        for split in ("held_out", "train"):  # a store of limited size keeps its held-out part
            for text in read_documents(self._path(split), column="text"):
                yield Document(text, held_out=split == "held_out")

    def fingerprint(self) -> dict[str, Any]:
        return {split: _sha256(self._path(split)) for split in ("train", "held_out")}

    @staticmethod
    def _path(split: str) -> Path:
        return BUNDLED / "text" / f"{split}.jsonl.xz"


class TextFiles(TextSource):
    """Local files: .txt (a file is a document), .jsonl and .parquet (a row is one); also .gz, .xz and .zst.

    Args:
        paths: Files, or globs of files. A file that has the name is taken, whatever brackets are in it.
        column: Column of .jsonl and .parquet that holds the text. Rows where it is null are left out.
        separator: Text that cuts a .txt into documents, e.g. a blank line, "\\n\\n"; None: the file is one document.
            A backslash and n, r or t stand for the line end and the tab, unless a letter follows.
        held_out_fraction: Fraction of the documents, chosen by a hash of their text, so that copies of a document
            are all held out or all not. Of a single document, the end is held out.

    Raises:
        InputError: A path that matches nothing, or a fraction outside (0, 1).
    """

    def __init__(
        self,
        paths: str | list[str],
        column: str = "text",
        separator: str | None = None,
        held_out_fraction: float = 0.02,
    ) -> None:
        check_fraction(held_out_fraction)
        if not paths:
            raise InputError(f"text.init_args.paths is {paths!r}; give a file, a glob or several.")
        self.paths = [path for pattern in ([paths] if isinstance(paths, str) else paths) for path in _expand(pattern)]
        self.column = column
        self.separator = separator and _as_typed(separator)
        self.held_out_fraction = held_out_fraction

    def documents(self) -> Iterator[Document]:
        nulls = Nulls(self.column)
        try:
            for path in self.paths:
                for text in read_documents(path, self.column, self.separator, nulls):
                    yield Document(text, is_held_out(text, self.held_out_fraction))
        finally:
            nulls.tell()

    def tail_fraction(self) -> float | None:
        return self.held_out_fraction

    def fingerprint(self) -> dict[str, Any]:
        files = [_file_state(path) for path in self.paths]
        options = [self.column, self.separator, self.held_out_fraction]
        return {"files": files, "options": options}


class HuggingFaceText(TextSource):
    """A dataset of the Hugging Face hub, or a local one, through `datasets.load_dataset`.

    Args:
        path: Hub name, local folder, or the name of a loader such as "json" with `data_files`.
        name: Configuration of the dataset.
        split: Of which documents are read.
        column: Column that holds the text. Rows where it is null are left out.
        streaming: Read from the hub while tokenising instead of downloading first.
        revision: Commit or tag; pin it for runs that must be repeatable.
        held_out_split: A split whose documents are the held-out ones, instead of a fraction.
        held_out_fraction: Of the documents, chosen by a hash of their text.
        load_args: Further arguments of `datasets.load_dataset`, e.g. `data_files`.

    Raises:
        InputError: The dataset, its split or its column does not exist, or the hub cannot be reached.
    """

    LOADERS = ("arrow", "csv", "json", "parquet", "text", "webdataset")

    def __init__(
        self,
        path: str,
        name: str | None = None,
        split: str = "train",
        column: str = "text",
        streaming: bool = True,
        revision: str | None = None,
        held_out_split: str | None = None,
        held_out_fraction: float = 0.01,
        load_args: dict[str, Any] | None = None,
    ) -> None:
        check_fraction(held_out_fraction)
        if path in EXECUTES or _is_script(path) or not EXECUTES.isdisjoint(load_args or {}):
            raise InputError(f"text: {path!r} with load_args {load_args} could execute code of the data: not read.")
        self.path = path
        self.name = name
        self.split = split
        self.column = column
        self.streaming = streaming
        self.revision = revision
        self.held_out_split = held_out_split
        self.held_out_fraction = held_out_fraction
        self.load_args = without_removed(load_args or {})  # what stands in the place of a secret is never sent

    def documents(self) -> Iterator[Document]:
        if self.held_out_split is not None:
            for text in self._texts(self.held_out_split):
                yield Document(text, held_out=True)
        for text in self._texts(self.split):
            yield Document(text, self.held_out_split is None and is_held_out(text, self.held_out_fraction))

    def fingerprint(self) -> dict[str, Any]:
        options = {key: value for key, value in vars(self).items() if key != "streaming"}
        options = without_removed(redacted(options))  # the text is the same, whoever reads it
        return options | {"files": [_file_state(path) for path in self._local_files()]}

    def tail_fraction(self) -> float | None:
        return self.held_out_fraction if self.held_out_split is None else None

    def _local_files(self) -> list[Path]:
        """The files of a local dataset, as far as they can be told."""
        if self.path not in self.LOADERS:
            return sorted(path for path in Path(self.path).rglob("*") if path.is_file())
        data_files = self.load_args.get("data_files", [])
        groups = data_files.values() if isinstance(data_files, dict) else [data_files]
        patterns = [pattern for group in groups for pattern in ([group] if isinstance(group, str) else group)]
        return sorted(path for pattern in patterns for path in _matching(pattern))

    def _require_own_files(self) -> None:
        """Refuse a dataset of the hub whose card names files of this machine, or another builder than files of text.

        Raises:
            ValueError: With the file.
        """
        from datasets import load_dataset, load_dataset_builder

        if self.path in self.LOADERS or Path(self.path).exists():
            return
        # A builder takes what it does not know for options of the dataset, and fails.
        of_loading = signature(load_dataset).parameters.keys() - signature(load_dataset_builder).parameters
        options = {name: value for name, value in self.load_args.items() if name not in of_loading}
        builder = load_dataset_builder(self.path, self.name, revision=self.revision, **options)
        for files in (builder.config.data_files or {}).values():
            for file in files:
                if not str(file).startswith(("hf://", "https://")):
                    raise ValueError(f"the dataset names the local file {str(file)!r}; it is not read")

    def _texts(self, split: str) -> Iterator[str]:
        from datasets import load_dataset
        from datasets.exceptions import DatasetGenerationError

        if Path(self.path).is_file():
            raise InputError(
                f"text.init_args.path: {self.path!r} is a file; give it to TextFiles, or as load_args.data_files."
            )
        if self.path not in self.LOADERS and not Path(self.path).exists():
            require_available(self.path, "text.init_args.path", "dataset")
        try:
            self._require_own_files()
            rows = load_dataset(
                self.path,
                self.name,
                split=split,
                revision=self.revision,
                streaming=self.streaming,
                **self.load_args,
            )
            columns = rows.column_names or list(next(iter(rows), {}))
        except (
            OSError,
            ValueError,
            RuntimeError,
            TypeError,
            MemoryError,
            DatasetGenerationError,
            StopIteration,
        ) as error:
            raise self._load_error(error) from None
        if self.column not in columns:
            raise InputError(
                f"text.init_args.column: {self.path!r} has no column {self.column!r}, only {', '.join(columns)}."
                + did_you_mean(self.column, columns)
            )
        nulls = Nulls(self.column)
        try:
            for number, row in enumerate(rows):
                text = row[self.column]
                if not isinstance(text, str | None):
                    raise InputError(
                        f"text.init_args.column: row {number} of {self.path!r} has no text in column {self.column!r}."
                    )
                if text is not None and len(text) > MAX_DOCUMENT:
                    raise InputError(
                        f"text.init_args.path: row {number} of {self.path!r} has {len(text):,} characters; "
                        f"{MAX_DOCUMENT:,} is the limit."
                    )
                yield from nulls.passing(text)
        except InputError:
            raise
        except MemoryError:
            raise InputError(
                f"text.init_args.path: this machine has too little memory to read {self.path!r}; "
                "give smaller files or documents."
            ) from None
        except Exception as error:  # of the network, the file format or the builder
            raise self._load_error(error) from None
        finally:
            nulls.tell()

    def _load_error(self, error: Exception) -> InputError:
        reason = next(iter(str(error.__cause__ or error).splitlines()), "") or "it is empty"
        return InputError(f"text.init_args.path: {self.path!r} cannot be loaded: {reason}")


def _is_script(path: str) -> bool:
    """Whether old versions of `datasets` would run a script that is there."""
    return path.endswith(".py") or os.path.lexists(Path(path) / f"{Path(path).resolve().name}.py")


def is_held_out(text: str, fraction: float) -> bool:
    """Whether a document is held out: its hash, as a number in [0, 1), is below `fraction`."""
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") < fraction * 2**64


def check_fraction(held_out_fraction: float) -> None:
    if not 0 < held_out_fraction < 1:
        raise InputError(f"held_out_fraction is {held_out_fraction}; it must be between 0 and 1, e.g. 0.01.")


def key_of(values: dict[str, Any]) -> str:
    """A short name for plain values: equal values, equal name."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _as_typed(separator: str) -> str:
    r"""A separator with the line ends that a shell leaves as backslash and n; "\newpage" stays as it is."""
    ends = {"n": "\n", "r": "\r", "t": "\t"}
    typed = re.sub(r"\\([nrt])(?![A-Za-z])", lambda match: ends[match[1]], separator)
    return typed.replace("\r\n", "\n").replace("\r", "\n")  # as the text has them


def _matching(pattern: str) -> list[Path]:
    """What a glob matches. Names that are there are taken literally, as far as the first that is not."""
    path = Path(pattern).expanduser()
    literal, parts = Path(path.anchor), list(path.relative_to(path.anchor).parts)
    while parts and os.path.exists(literal / parts[0]):  # noqa: PTH110, which takes names of any length
        literal /= parts.pop(0)
    found = glob(os.path.join(escape(str(literal)), *parts), recursive=True)  # noqa: PTH118, PTH207, ** and absolute
    return [Path(name) for name in found]


def _expand(pattern: str) -> list[Path]:
    names = _matching(pattern)
    found = sorted(name for name in names if name.is_file())
    if not found:
        instead = f"; it is a folder, so give '{pattern}/*.jsonl' or the like" if names else ""
        raise InputError(f"text.init_args.paths: {pattern!r} matches no file{instead}.")
    return found


def _file_state(path: Path) -> list[Any]:
    return [str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

"""Documents to a memory-mapped [num_sequences, context_length] store, made once and reused."""

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from vsae_lightning.data.text import Document, TextSource, key_of
from vsae_lightning.errors import InputError
from vsae_lightning.files import remove_leftovers, sha256, to_disk

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FORMAT = 2
SPLITS = ("train", "held_out")
DOCUMENTS_PER_CALL = 256


@dataclass(frozen=True)
class TokenStore:
    """The packed tokens of one corpus; the arrays are memory-mapped."""

    folder: Path
    train: NDArray[np.unsignedinteger[Any]]
    held_out: NDArray[np.unsignedinteger[Any]]

    @property
    def key(self) -> str:
        """A hash of all that the tokens depend on, and the name of the folder."""
        return self.folder.name

    @classmethod
    def prepare(
        cls,
        text: TextSource,
        tokenizer: "PreTrainedTokenizerFast",
        context_length: int,
        prepend_bos: bool = False,
        max_tokens: int | None = None,
        cache_dir: str | Path | None = None,
    ) -> "TokenStore":
        """Open the store of this text, tokenizer and layout; tokenise first if there is none, or a damaged one.

        Of several processes one tokenises, and the others wait for it; what one that was killed left behind is removed.
        Documents are joined by the end-of-text token and cut into rows of `context_length`; what does
        not fill a last row is dropped. With `prepend_bos`, every row starts with the BOS token.

        Args:
            text: The documents.
            tokenizer: A fast tokenizer.
            context_length: Tokens per row.
            prepend_bos: Start every row with the tokenizer's BOS token.
            max_tokens: Stop once there are so many training tokens; None: take all of the text.
            cache_dir: Where stores are kept; None: `~/.cache/vsae_lightning/tokens`.

        Raises:
            InputError: A split without a full row, or no BOS or EOS token where one is needed.
        """
        key = store_key(text, tokenizer, context_length, prepend_bos, max_tokens)
        folder = Path(cache_dir or default_cache_dir()) / key
        if not _is_whole(folder):
            packer = _Packer(tokenizer, context_length, prepend_bos)
            with _alone(folder):
                if not _is_whole(folder):  # nobody made it meanwhile
                    _write(folder, packer, text.documents(), max_tokens)
        return cls(folder, *(_open(folder, split) for split in SPLITS))


def store_key(
    text: TextSource,
    tokenizer: "PreTrainedTokenizerFast",
    context_length: int,
    prepend_bos: bool = False,
    max_tokens: int | None = None,
) -> str:
    """A hash of all that the tokens depend on, the state of local files too; no text is read for this."""
    described = {
        "format": FORMAT,
        "text": [type(text).__name__, text.fingerprint()],
        "tokenizer": [tokenizer.backend_tokenizer.to_str(), tokenizer.eos_token_id, tokenizer.bos_token_id],
        "context_length": context_length,
        "prepend_bos": prepend_bos,
        "max_tokens": max_tokens,
    }
    return key_of(described)


def default_cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vsae_lightning" / "tokens"


class _Packer:
    """Token ids of documents to rows of a fixed length."""

    def __init__(self, tokenizer: "PreTrainedTokenizerFast", context_length: int, prepend_bos: bool) -> None:
        if tokenizer.eos_token_id is None:
            raise InputError("the tokenizer has no end-of-text token, which separates documents.")
        if prepend_bos and tokenizer.bos_token_id is None:
            raise InputError("prepend_bos is true, but the tokenizer has no BOS token; set it to false.")
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.prefix = [tokenizer.bos_token_id] if prepend_bos else []
        self.dtype = np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32)
        self.rest: dict[str, list[int]] = {split: [] for split in SPLITS}

    def rows(self, documents: list[Document]) -> dict[str, NDArray[np.unsignedinteger[Any]]]:
        """The rows that these documents complete, of each split."""
        # JSON may hold half a surrogate pair, which is no text; it becomes a question mark.
        texts = [document.text.encode(errors="replace").decode() for document in documents]
        # verbose=False: documents longer than the model's context are meant, they are cut into rows.
        encoded = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        for document, ids in zip(documents, encoded, strict=True):
            self.rest["held_out" if document.held_out else "train"] += [*ids, self.tokenizer.eos_token_id]
        return {split: self._cut(split) for split in SPLITS}

    def _cut(self, split: str) -> NDArray[np.unsignedinteger[Any]]:
        length = self.context_length - len(self.prefix)
        count = len(self.rest[split]) // length
        taken, self.rest[split] = self.rest[split][: count * length], self.rest[split][count * length :]
        rows = np.array(taken, dtype=self.dtype).reshape(count, length)
        prefix = np.broadcast_to(np.array(self.prefix, dtype=self.dtype), (count, len(self.prefix)))
        return np.concatenate([prefix, rows], axis=1)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes, on other machines too, from making the same store."""
    new = _make_folder(folder.parent)
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        with lock:
            try:
                if folder.exists() and not _is_whole(folder):
                    warnings.warn(f"the token store {folder} is damaged; it is made anew.", stacklevel=3)
                remove_leftovers(folder)
                yield
            finally:
                Path(lock.lock_file).unlink(missing_ok=True)  # while it is held, or it could be another's
    finally:
        _remove_empty(new)


def _write(folder: Path, packer: _Packer, documents: Iterator[Document], max_tokens: int | None) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        counts = _write_rows(temporary, packer, documents, max_tokens)
        for split, count in counts.items():
            if count == 0:
                raise InputError(
                    f"the {split} documents hold fewer tokens than one context of {packer.context_length}: "
                    "give more text, more documents, or another held_out_fraction "
                    "(a .txt file is one document unless --data.text.separator cuts it)."
                )
        for split in SPLITS:
            to_disk(_file(temporary, split))
        layout = {
            "rows": counts,
            "context_length": packer.context_length,
            "dtype": packer.dtype.name,
            "sha256": {split: sha256(_file(temporary, split)) for split in SPLITS},
        }
        (temporary / "store.json").write_text(json.dumps(layout), encoding="utf-8")
        to_disk(temporary / "store.json")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
        to_disk(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it; returns the new ones, from the innermost."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cache_dir: {str(folder)!r} cannot be a folder: {error.strerror}.") from None
    return new


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # it holds a store by now
            folder.rmdir()


def _write_rows(folder: Path, packer: _Packer, documents: Iterator[Document], max_tokens: int | None) -> dict[str, int]:
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    counts = dict.fromkeys(SPLITS, 0)
    columns = (TextColumn("tokenising: {task.completed:,.0f} tokens"), TimeElapsedColumn())
    with (
        Progress(*columns) as progress,
        _file(folder, "train").open("wb") as train,
        _file(folder, "held_out").open("wb") as held_out,
    ):
        task = progress.add_task("", total=max_tokens)
        for batch in _batched(documents):
            for (split, rows), file in zip(packer.rows(batch).items(), (train, held_out), strict=True):
                if split == "train" and max_tokens is not None:
                    rows = rows[: -(-max_tokens // packer.context_length) - counts[split]]
                rows.tofile(file)
                counts[split] += len(rows)
            tokens = counts["train"] * packer.context_length
            progress.update(task, completed=tokens)
            if max_tokens is not None and tokens >= max_tokens:
                break
    return counts


def _batched(documents: Iterable[Document]) -> Iterator[list[Document]]:
    iterator = iter(documents)
    while batch := list(islice(iterator, DOCUMENTS_PER_CALL)):
        yield batch


def _is_whole(folder: Path) -> bool:
    """Whether every file has the size and the checksum that the layout, written last, says."""
    try:
        layout = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        row_bytes = layout["context_length"] * np.dtype(layout["dtype"]).itemsize
        files = {split: _file(folder, split) for split in SPLITS}
        sizes_fit = all(file.stat().st_size == layout["rows"][split] * row_bytes for split, file in files.items())
        return sizes_fit and all(sha256(file) == layout["sha256"][split] for split, file in files.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _open(folder: Path, split: str) -> NDArray[np.unsignedinteger[Any]]:
    layout = json.loads((folder / "store.json").read_text(encoding="utf-8"))
    return np.memmap(
        _file(folder, split), layout["dtype"], "r", shape=(layout["rows"][split], layout["context_length"])
    )


def _file(folder: Path, split: str) -> Path:
    return folder / f"{split}.bin"

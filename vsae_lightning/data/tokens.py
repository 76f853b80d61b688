"""Documents to a memory-mapped [num_sequences, context_length] store, made once and reused."""

import os
import stat
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from vsae_lightning.data.store_folder import (
    SPLITS,
    Layout,
    file_of,
    read_layout,
    remove_store,
    require_store,
    write_layout,
)
from vsae_lightning.data.text import Document, TextSource, key_of
from vsae_lightning.data.tokenizer_limits import failures_told
from vsae_lightning.errors import InputError
from vsae_lightning.files import to_disk

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FORMAT = 2
# The tokenizer takes about a hundred times a text's length in memory.
DOCUMENTS_PER_CALL, CHARACTERS_PER_CALL = 256, 2**23
# Bytes become a token each at the most; the Unicode forms lengthen a text up to eleven times before.
MAX_IDS_PER_BYTE = 32


@dataclass(frozen=True)
class TokenStore:
    """The packed tokens of one corpus; the arrays are memory-mapped.

    `digests` holds the SHA-256 of each split's file: a record of it elsewhere tells whether the tokens are the same.
    """

    folder: Path
    train: NDArray[np.unsignedinteger[Any]]
    held_out: NDArray[np.unsignedinteger[Any]]
    digests: dict[str, str] = field(default_factory=dict)

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
        embeddings: int | None = None,
    ) -> "TokenStore":
        """Open the store of this text, tokenizer and layout; tokenise first if there is none, or a damaged one.

        Of several processes one tokenises, and the others wait for it; what one that was killed left behind is removed.
        Documents are joined by the end-of-text token and cut into rows of `context_length`; what does
        not fill a last row is dropped. With `prepend_bos`, every row starts with the BOS token. Where the documents
        leave nothing to hold out, as a single one does, the last rows are held out, after a gap of one.

        Args:
            text: The documents.
            tokenizer: A fast tokenizer.
            context_length: Tokens per row.
            prepend_bos: Start every row with the tokenizer's BOS token.
            max_tokens: Stop once there are so many training tokens; None: take all of the text.
            cache_dir: Where stores are kept; None: `~/.cache/vsae_lightning/tokens`.
            embeddings: Number of tokens that the language model knows; None: that of the tokenizer.

        Raises:
            InputError: A split without a full row, a token that the model does not know, no BOS or EOS token where one
                is needed, a tokenizer that fails or multiplies the text, or something else in the store's place.
        """
        key = store_key(text, tokenizer, context_length, prepend_bos, max_tokens)
        folder = Path(cache_dir or default_cache_dir()) / key
        num_ids = 1 + max(tokenizer.get_vocab().values(), default=0)
        layout = read_layout(folder, context_length, num_ids)
        if layout is None:
            packer = _Packer(tokenizer, context_length, prepend_bos, num_ids, embeddings or num_ids)
            with _alone(folder):
                layout = read_layout(folder, context_length, num_ids)
                if layout is None:  # nobody made it meanwhile
                    if os.path.lexists(folder):
                        require_store(folder)
                        warnings.warn(f"the token store {folder} is damaged; it is made anew.", stacklevel=2)
                    layout = _write(folder, packer, text, max_tokens)
        require_known(layout.largest_id, tokenizer, embeddings or num_ids)
        train, held_out = (_open(folder, split, layout) for split in SPLITS)
        return cls(folder, train, held_out, layout.sha256)


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


def require_known(token: int, tokenizer: "PreTrainedTokenizerFast", embeddings: int) -> None:
    """Refuse a token of the text that the language model has no embedding for; its tokenizer may have more tokens."""
    if token >= embeddings:
        raise InputError(
            f"the text has the token {tokenizer.convert_ids_to_tokens(token)!r} (id {token}), but the language model "
            f"knows only ids below {embeddings}; remove it from the text, or give the model its own tokenizer."
        )


class _Packer:
    """Token ids of documents to rows of a fixed length."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerFast",
        context_length: int,
        prepend_bos: bool,
        num_ids: int,
        embeddings: int,
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise InputError("the tokenizer has no end-of-text token, which separates documents.")
        if prepend_bos and tokenizer.bos_token_id is None:
            raise InputError("prepend_bos is true, but the tokenizer has no BOS token; set it to false.")
        self.tokenizer = tokenizer
        self.embeddings = embeddings
        self.context_length = context_length
        self.prefix = [tokenizer.bos_token_id] if prepend_bos else []
        self.dtype = np.dtype(np.uint16 if num_ids <= 2**16 else np.uint32)
        for token in self.prefix:
            require_known(token, tokenizer, embeddings)
        self.begin()

    def begin(self) -> None:
        """Forget what did not fill a row."""
        self.rest = {split: np.empty(0, self.dtype) for split in SPLITS}

    def rows(self, documents: list[Document]) -> dict[str, NDArray[np.unsignedinteger[Any]]]:
        """The rows that these documents complete, of each split."""
        # JSON may hold half a surrogate pair, which is no text; it becomes a question mark.
        texts = [document.text.encode(errors="replace").decode() for document in documents]
        with failures_told("the text cannot be tokenised"):
            # verbose=False: documents longer than the model's context are meant, they are cut into rows.
            encoded = self.tokenizer(
                texts,
                add_special_tokens=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )["input_ids"]
        parts = {split: [rest] for split, rest in self.rest.items()}
        for document, text, ids in zip(documents, texts, encoded, strict=True):
            if len(ids) > MAX_IDS_PER_BYTE * len(text.encode()):
                raise InputError(
                    f"the tokenizer multiplies text: it makes {len(ids):,} tokens of {len(text):,} characters."
                )
            split = "held_out" if document.held_out else "train"
            array = np.array([*ids, self.tokenizer.eos_token_id], self.dtype)
            require_known(int(array.max()), self.tokenizer, self.embeddings)
            parts[split].append(array)
        return {split: self._cut(split, np.concatenate(parts[split])) for split in SPLITS}

    def _cut(self, split: str, ids: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.unsignedinteger[Any]]:
        length = self.context_length - len(self.prefix)
        count = len(ids) // length
        self.rest[split] = ids[count * length :].copy()  # else it would keep all of them in memory
        rows = ids[: count * length].reshape(count, length)
        prefix = np.broadcast_to(np.array(self.prefix, dtype=self.dtype), (count, len(self.prefix)))
        return np.concatenate([prefix, rows], axis=1)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes, on other machines too, from making the same store."""
    new = _make_folder(folder.parent)
    lock = FileLock(folder.with_suffix(".lock"))
    if os.path.lexists(lock.lock_file) and not stat.S_ISREG(os.lstat(lock.lock_file).st_mode):
        raise InputError(f"cache_dir: {lock.lock_file!r} is no lock file; remove it, or give another cache_dir.")
    try:
        with lock:
            try:
                for leftover in folder.parent.glob(f".{folder.name}.*"):  # of a process that was killed
                    remove_store(leftover)
                yield
            finally:
                Path(lock.lock_file).unlink(missing_ok=True)  # while it is held, or it could be another's
    finally:
        _remove_empty(new)


def _write(folder: Path, packer: _Packer, text: TextSource, max_tokens: int | None) -> Layout:
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        counts = _write_rows(temporary, packer, text.documents(), max_tokens)
        if 0 in counts.values() and (fraction := text.tail_fraction()) is not None:
            counts = _hold_out_tail(temporary, packer, text, max_tokens, fraction) or counts
        for split, count in counts.items():
            if count == 0:
                raise InputError(
                    f"the {split} documents hold fewer tokens than one context of {packer.context_length}: "
                    "give more text, more documents, or another held_out_fraction "
                    "(a .txt file is one document unless --data.text.separator cuts it)."
                )
        layout = write_layout(temporary, counts, packer.context_length, packer.dtype)
        remove_store(folder)
        temporary.replace(folder)
        to_disk(folder.parent)
        return layout
    finally:
        remove_store(temporary)


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
        file_of(folder, "train").open("wb") as train,
        file_of(folder, "held_out").open("wb") as held_out,
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


def _hold_out_tail(
    folder: Path, packer: _Packer, text: TextSource, max_tokens: int | None, fraction: float
) -> dict[str, int] | None:
    """Write all documents again, as one text whose last rows are held out; None where they are too few.

    The row between is left out, so that no sentence is in both.
    """
    from lightning.pytorch.utilities.rank_zero import rank_zero_info

    length = packer.context_length
    wanted = None if max_tokens is None else -(-max_tokens // length)
    extra = 0 if wanted is None else 1 + max(1, round(wanted * fraction / (1 - fraction)))
    packer.begin()
    documents = (Document(document.text, held_out=False) for document in text.documents())
    rows = _write_rows(folder, packer, documents, None if wanted is None else (wanted + extra) * length)["train"]
    held_out = extra - 1 if wanted is not None and rows == wanted + extra else max(1, round(rows * fraction))
    train = rows - 1 - held_out
    if train < 1:
        return None
    file = file_of(folder, "train")
    np.memmap(file, packer.dtype, "r")[(rows - held_out) * length :].tofile(file_of(folder, "held_out"))
    os.truncate(file, train * length * packer.dtype.itemsize)
    rank_zero_info(
        f"the text has too few documents to hold some out: its last {held_out * length:,} tokens are held out instead, "
        f"after a gap of {length:,}; {train * length:,} are trained on."
    )
    return {"train": train, "held_out": held_out}


def _batched(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if len(batch) == DOCUMENTS_PER_CALL or characters >= CHARACTERS_PER_CALL:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _open(folder: Path, split: str, layout: Layout) -> NDArray[np.unsignedinteger[Any]]:
    shape = (layout.rows[split], layout.context_length)
    return np.memmap(file_of(folder, split), layout.dtype, "r", shape=shape)

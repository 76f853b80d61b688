"""Reads documents out of one local file, whatever its format and compression; what a file can take is bounded."""

import codecs
import gzip
import io
import json
import lzma
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vsae_lightning.errors import InputError, did_you_mean

COMPRESSIONS = (".gz", ".xz", ".zst")
FORMATS = (".txt", ".jsonl", ".parquet")
CHUNK = 2**20
# Text compresses about five times, a bomb a thousand times. Small, as the tokenizer takes 170 bytes a character.
FREE_BYTES, MAX_EXPANSION = 2**22, 100
MAX_DOCUMENT = 2**28
# A value that is stored once is copied into each row of a batch, and no row tells its length before.
PARQUET_ROWS = 4
COLUMNS_SHOWN = 40
BYTE_ORDER_MARK = codecs.BOM_UTF8
# zstd looks back no further than this by default; pyarrow reads no file that does.
USUAL_WINDOW, LARGEST_WINDOW = 2**27, 2**31
ZSTD_STEP = 2**10  # each four bytes may expand to 128 KiB


class Nulls:
    """Counts rows without text, which are left out, and says so once."""

    def __init__(self, column: str) -> None:
        self.column = column
        self.rows = 0
        self.nulls = 0

    def passing(self, text: str | None) -> Iterator[str]:
        """The text of a row, if it has any."""
        self.rows += 1
        if text is None:
            self.nulls += 1
        elif text and not text.isspace():
            yield text

    def tell(self) -> None:
        """Warn of the rows that were left out."""
        if self.nulls:
            warnings.warn(
                f"{self.nulls:,} of {self.rows:,} rows have no text (null) in column {_shown(self.column)!r}; "
                "they are left out.",
                stacklevel=2,
            )


def read_documents(path: Path, column: str, separator: str | None = None, nulls: Nulls | None = None) -> Iterator[str]:
    """The documents of a .txt, .jsonl or .parquet file, in order; rows without text are left out, and counted.

    Raises:
        InputError: A file without text, one that cannot be read, that expands like a bomb, or with a document of more
            than 256 MiB.
    """
    suffix = path.with_suffix("").suffix if path.suffix in COMPRESSIONS else path.suffix
    if suffix == ".parquet":
        documents: Iterator[str | None] = _parquet(path, column)
    elif suffix == ".jsonl":
        documents = _jsonl(path, column)
    elif suffix == ".txt":
        documents = _txt(path, separator)
    else:
        raise InputError(
            f"{path}: unknown kind of file; known are {', '.join(FORMATS)}, also with {', '.join(COMPRESSIONS)}."
        )
    nulls = nulls or Nulls(column)
    empty = True
    try:
        for document in documents:
            for text in nulls.passing(document):
                empty = False
                yield text
    except MemoryError:
        raise InputError(f"{path}: this machine has too little memory to read it; give smaller documents.") from None
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if empty:
        raise InputError(f"{path}: holds no text.")


class _Expansion:
    """Refuses what expands far more than text does; `size` is in bytes, of what was read from the disk so far."""

    def __init__(self, path: Path, remedy: str) -> None:
        self.path = path
        self.remedy = remedy
        self.expanded = 0

    def add(self, expanded: int, size: int) -> None:
        self.expanded += expanded
        if self.expanded > FREE_BYTES + MAX_EXPANSION * size:
            raise InputError(
                f"{self.path}: {size:,} bytes expand to {self.expanded:,} or more, which text does not; {self.remedy}."
            )


class _Decompressed(io.RawIOBase):
    """The bytes of a compressed file."""

    def __init__(self, path: Path) -> None:
        self._expansion = _Expansion(path, "decompress the file if it is to be read")
        self._file: Any = path.open("rb")
        self._source: Any
        if path.suffix != ".zst":
            self._source = (gzip if path.suffix == ".gz" else lzma).open(self._file)
        elif _has_long_window(path):
            self._source = _LongZstd(self._file)
        else:
            import pyarrow

            # The package zstandard takes a truncated file for a shorter one.
            self._source = pyarrow.CompressedInputStream(self._file, "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._source.read(len(buffer))
        self._expansion.add(len(content), self._file.tell())
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
            self._file.close()
        super().close()


class _LongZstd:
    """The bytes of a .zst made with --long, which looks back up to 2 GiB."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._frame: Any = None
        self._left = self._rest = b""

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end.

        Raises:
            EOFError: The file ends within a frame.
            OSError: It is damaged.
        """
        import zstandard

        while not self._rest:
            step = self._left or self._file.read(ZSTD_STEP)
            if not step:
                if self._frame is not None:
                    raise EOFError("it ends within a frame of zstd")
                return b""
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).decompressobj()
            try:
                self._rest = self._frame.decompress(step)
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from None
            self._left = self._frame.unused_data
            if self._frame.eof:
                self._frame = None
        content, self._rest = self._rest[:size], self._rest[size:]
        return content

    def close(self) -> None:
        self._frame = None


def _has_long_window(path: Path) -> bool:
    import zstandard

    with path.open("rb") as file:
        try:
            window: int = zstandard.get_frame_parameters(file.read(18)).window_size
        except zstandard.ZstdError:  # whoever reads it says what is wrong
            return False
    return window > USUAL_WINDOW


def _open(path: Path) -> io.BufferedReader:
    """The bytes of a file, decompressed."""
    return io.BufferedReader(_Decompressed(path), CHUNK) if path.suffix in COMPRESSIONS else path.open("rb")


def _txt(path: Path, separator: str | None) -> Iterator[str]:
    rest: list[str] = []
    held = 0  # characters in rest
    for text in _decoded(path):
        rest.append(text)
        held += len(text)
        # Joined at each doubling only, so that a long document is not copied once per chunk.
        if separator and held >= 2 * len(rest[0]):
            *documents, last = "".join(rest).split(separator)
            yield from documents
            rest, held = [last], len(last)
        if held > MAX_DOCUMENT:
            raise _too_long(path, "a document", "cut it with text.init_args.separator, e.g. a blank line")
    yield from "".join(rest).split(separator) if separator else ["".join(rest)]


def _decoded(path: Path) -> Iterator[str]:
    """The text of a file in pieces, with line ends as Python has them."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    begins = True
    line_ends = io.IncrementalNewlineDecoder(None, translate=True)
    done = 0
    with _open(path) as file:
        while True:
            block = file.read(CHUNK)
            begun = len(decoder.getstate()[0])
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                place = done - begun + error.start
                raise InputError(f"{path}: not UTF-8 (byte {place}); convert it, e.g. with iconv.") from None
            if begins and text:
                text, begins = text.removeprefix("\ufeff"), False
            yield line_ends.decode(text, final=not block)
            if not block:
                return
            done += len(block)


def _jsonl(path: Path, column: str) -> Iterator[str | None]:
    number = 0
    with _open(path) as file:
        while line := file.readline(MAX_DOCUMENT + 1):
            number += 1
            line = line.removeprefix(BYTE_ORDER_MARK)  # also where files were joined
            if number == 1:
                _require_lines(path, line)
            if len(line) > MAX_DOCUMENT:
                raise _too_long(path, f"line {number}", "cut it into several lines")
            if line.strip():
                row = _parse(path, number, line)
                is_null = isinstance(row, dict) and column in row and row[column] is None
                yield None if is_null else _field(path, f"line {number}", row, column)


def _require_lines(path: Path, first: bytes) -> None:
    """Refuse a file that is one JSON value over several lines, or one list."""
    kind = {b"[": "a JSON array", b"{": "one JSON object over several lines"}.get(first.strip())
    if kind is None and first.lstrip().startswith(b"["):
        kind = "a JSON array"
    if kind:
        remedy = "jq -c '.[]'" if "array" in kind else "jq -c ."
        raise InputError(f"{path}: it is {kind}, not a JSON object on each line; convert it, e.g. with {remedy}.")


def _too_long(path: Path, what: str, remedy: str) -> InputError:
    return InputError(f"{path}: {what} is longer than {MAX_DOCUMENT // 2**20} MiB; {remedy}.")


def _parse(path: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError:
        raise InputError(f"{path}: line {number} is not UTF-8; convert the file, e.g. with iconv.") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: line {number} is not JSON ({error.msg}).") from None
    except ValueError:
        raise InputError(f"{path}: line {number} is not JSON of a text (a number of too many digits).") from None
    except RecursionError:
        raise InputError(f"{path}: line {number} is not JSON of a text (brackets too deep).") from None


def _field(path: Path, place: str, row: Any, column: str) -> str:
    if not isinstance(row, dict) or not isinstance(row.get(column), str):
        columns = list(row) if isinstance(row, dict) else []
        instead = f", but {type(row[column]).__name__}" if column in columns else ""
        raise InputError(
            f"{path}: {place} has no text in column {column!r}{instead}; columns: {_listed(columns)}."
            + did_you_mean(column, [name for name in map(_shown, columns[:COLUMNS_SHOWN]) if name != column])
        )
    text: str = row[column]
    return text


def _listed(columns: list[str]) -> str:
    more = f" and {len(columns) - COLUMNS_SHOWN} more" if len(columns) > COLUMNS_SHOWN else ""
    return (", ".join(map(_shown, columns[:COLUMNS_SHOWN])) or "none") + more


def _shown(name: str) -> str:
    """A column's name for a message: a stranger's may be long, or steer the terminal."""
    return (name if name.isprintable() else ascii(name))[:80]


def _parquet(path: Path, column: str) -> Iterator[str | None]:
    import pyarrow
    import pyarrow.parquet

    if path.suffix in COMPRESSIONS:
        raise InputError(f"{path}: parquet compresses by itself; decompress the file.")
    size = path.stat().st_size
    remedy = "write the text as .jsonl if it is to be read"
    expansion = _Expansion(path, remedy)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _require_text(path, file, column)
            # Not asked by column: on a damaged one pyarrow ends the process.
            claimed = sum(file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups))
            _Expansion(path, remedy).add(claimed, size)
            for batch in file.iter_batches(PARQUET_ROWS, columns=[column], use_threads=False):
                for value in batch.column(0):
                    text = value.as_py()
                    expansion.add(len(text or ""), size)
                    if len(text or "") > MAX_DOCUMENT:
                        raise _too_long(path, "a document", "cut it into several rows")
                    yield text
    except (pyarrow.ArrowInvalid, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a parquet file ({error}).") from None
    except pyarrow.ArrowException as error:
        if isinstance(error, MemoryError):
            raise
        raise InputError(f"{path}: cannot be read: {error}") from None


def _require_text(path: Path, file: Any, column: str) -> None:
    columns = file.schema_arrow.names
    if column not in columns:
        raise InputError(
            f"{path}: has no column {column!r}; columns: {_listed(columns)}."
            + did_you_mean(column, map(_shown, columns[:COLUMNS_SHOWN]))
        )
    if columns.count(column) > 1:
        raise InputError(f"{path}: has {columns.count(column)} columns {column!r}; rename all but one.")
    if not _is_text(file.schema_arrow.field(column).type):
        raise InputError(f"{path}: column {column!r} holds {file.schema_arrow.field(column).type}, not text.")


def _is_text(kind: Any) -> bool:
    import pyarrow

    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_string_view(kind)

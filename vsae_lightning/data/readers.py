"""Reads documents out of one local file, whatever its format and compression."""

import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vsae_lightning.errors import InputError, did_you_mean

COMPRESSIONS = (".gz", ".xz", ".zst")
FORMATS = (".txt", ".jsonl", ".parquet")


def read_documents(path: Path, column: str, separator: str | None = None) -> Iterator[str]:
    """The documents of a .txt, .jsonl or .parquet file, in order; a file without any raises `InputError`."""
    suffix = path.with_suffix("").suffix if path.suffix in COMPRESSIONS else path.suffix
    if suffix == ".parquet":
        documents = _parquet(path, column)
    elif suffix == ".jsonl":
        documents = _jsonl(path, column)
    elif suffix == ".txt":
        documents = _txt(path, separator)
    else:
        raise InputError(
            f"{path}: unknown kind of file; known are {', '.join(FORMATS)}, also with {', '.join(COMPRESSIONS)}."
        )
    empty = True
    try:
        for document in documents:
            if document.strip():
                empty = False
                yield document
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); convert it, e.g. with iconv.") from None
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if empty:
        raise InputError(f"{path}: holds no text.")


def _open(path: Path) -> Any:
    """The bytes of a file, decompressed."""
    if path.suffix == ".gz":
        return gzip.open(path)
    if path.suffix == ".xz":
        return lzma.open(path)
    if path.suffix == ".zst":
        import pyarrow

        # The package zstandard takes a truncated file for a shorter one.
        return pyarrow.input_stream(str(path), compression="zstd")
    return path.open("rb")


def _txt(path: Path, separator: str | None) -> Iterator[str]:
    with io.TextIOWrapper(_open(path), encoding="utf-8") as file:
        text = file.read()
    yield from text.split(separator) if separator else [text]


def _jsonl(path: Path, column: str) -> Iterator[str]:
    with io.BufferedReader(_open(path)) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _field(path, f"line {number}", _parse(path, number, line), column)


def _parse(path: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError:
        raise InputError(f"{path}: line {number} is not UTF-8; convert the file, e.g. with iconv.") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: line {number} is not JSON ({error.msg}).") from None
    except RecursionError:
        raise InputError(f"{path}: line {number} is not JSON of a text (brackets too deep).") from None


def _field(path: Path, place: str, row: Any, column: str) -> str:
    if not isinstance(row, dict) or not isinstance(row.get(column), str):
        columns = list(row) if isinstance(row, dict) else []
        instead = f", but {type(row[column]).__name__}" if column in columns else ""
        raise InputError(
            f"{path}: {place} has no text in column {column!r}{instead}; columns: {', '.join(columns) or 'none'}."
            + did_you_mean(column, [name for name in columns if name != column])
        )
    text: str = row[column]
    return text


def _parquet(path: Path, column: str) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    if path.suffix in COMPRESSIONS:
        raise InputError(f"{path}: parquet compresses by itself; decompress the file.")
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if column not in file.schema_arrow.names:
                columns = file.schema_arrow.names
                raise InputError(
                    f"{path}: has no column {column!r}; columns: {', '.join(columns)}." + did_you_mean(column, columns)
                )
            if not _is_text(file.schema_arrow.field(column).type):
                raise InputError(f"{path}: column {column!r} holds {file.schema_arrow.field(column).type}, not text.")
            for batch in file.iter_batches(columns=[column]):
                yield from (text for text in batch.column(0).to_pylist() if text)
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{path}: not a parquet file ({error}).") from None


def _is_text(kind: Any) -> bool:
    import pyarrow

    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_string_view(kind)

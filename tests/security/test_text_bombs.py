"""Files of text that expand to gigabytes, or that no memory holds: one line, and little memory."""

import json
import lzma
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vsae_lightning.data.readers import FREE_BYTES, MAX_DOCUMENT, MAX_EXPANSION, read_documents
from vsae_lightning.data.text import HuggingFaceText
from vsae_lightning.errors import InputError

# Reads a file and prints how many characters it held, the error, and the megabytes that reading took.
READ = """
import resource, sys
from pathlib import Path
import pyarrow.parquet
from vsae_lightning.data.readers import read_documents
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before, characters, error = peak(), 0, ""
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
try:
    for text in read_documents(Path(sys.argv[1]), "text"):
        characters += len(text)
except Exception as caught:
    error = f"{type(caught).__name__}: {caught}"
print(characters, peak() - before, error, sep="|")
"""
BLOCK = b"word " * (2**20 // 5)
BLOCKS = 300  # so many MiB of text
VALUE = "word " * 200_000


def read(path: Path, memory: int | None = None) -> tuple[int, int, str]:
    command = [sys.executable, "-c", READ, str(path), *([] if memory is None else [str(memory)])]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    characters, megabytes, error = printed.strip().split("|", 2)
    return int(characters), int(megabytes), error


def blocks(before: bytes, after: bytes) -> Iterator[bytes]:
    yield before
    for _ in range(BLOCKS):
        yield BLOCK
    yield after


def gz(parts: Iterator[bytes]) -> bytes:
    compressor = zlib.compressobj(9, wbits=31)
    return b"".join(compressor.compress(part) for part in parts) + compressor.flush()


def xz(parts: Iterator[bytes]) -> bytes:
    compressor = lzma.LZMACompressor(preset=0)
    return b"".join(compressor.compress(part) for part in parts) + compressor.flush()


def zst(parts: Iterator[bytes]) -> bytes:
    compressor = zstandard.ZstdCompressor().compressobj()
    return b"".join(compressor.compress(part) for part in parts) + compressor.flush()


@pytest.mark.parametrize("compress", [gz, xz, zst])
@pytest.mark.parametrize(("kind", "before", "after"), [("txt", b"", b""), ("jsonl", b'{"text": "', b'"}\n')])
def test_a_compressed_bomb_is_refused_in_little_memory(
    tmp_path: Path, compress: Callable[[Iterator[bytes]], bytes], kind: str, before: bytes, after: bytes
) -> None:
    path = tmp_path / f"bomb.{kind}.{compress.__name__}"
    path.write_bytes(compress(blocks(before, after)))
    assert path.stat().st_size < 1_000_000
    characters, megabytes, error = read(path)
    assert characters == 0
    assert error.startswith(f"InputError: {path}: ")
    assert "which text does not; decompress the file if it is to be read." in error
    assert megabytes < 200


def test_a_bomb_of_blank_lines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gz(iter([(b" " * 1023 + b"\n") * 2**10] * 100)))
    with pytest.raises(InputError, match="which text does not"):
        list(read_documents(path, "text"))


def repeated(path: Path) -> None:
    """A dictionary of one value, and 3,000 rows that name it."""
    array = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array([VALUE]))
    pq.write_table(pa.table({"text": array}), path, compression="zstd", store_schema=False)


def prefixed(path: Path) -> None:
    """Rows that are the row before, all of it."""
    options: dict[str, Any] = {
        "use_dictionary": False,
        "column_encoding": {"text": "DELTA_BYTE_ARRAY"},
        "compression": "zstd",
    }
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())]), **options) as writer:
        for _ in range(20):
            writer.write_table(pa.table({"text": [VALUE] * 100}))


def compressed(path: Path) -> None:
    pq.write_table(pa.table({"text": [VALUE * 60] * 4}), path, compression="zstd", use_dictionary=False)


def varint(number: int, length: int = 0) -> bytes:
    """A number as the footer of a parquet file has it, in no fewer bytes than asked."""
    parts: list[int] = []
    number *= 2
    while number > 127 or len(parts) + 1 < length:
        parts.append(number % 128 + 128)
        number //= 128
    return bytes([*parts, number])


def lying(path: Path) -> None:
    """The same, but the footer says that it is small."""
    compressed(path)
    group = pq.read_metadata(path).row_group(0)
    content = path.read_bytes()
    for size in {group.total_byte_size, group.column(0).total_uncompressed_size}:
        claim = varint(size)
        assert claim in content
        content = content.replace(claim, varint(1, len(claim)))
    path.write_bytes(content)
    assert pq.read_metadata(path).row_group(0).total_byte_size == 1


@pytest.mark.parametrize("make", [repeated, prefixed, compressed, lying])
def test_a_parquet_bomb_is_refused_in_little_memory(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "bomb.parquet"
    make(path)
    assert path.stat().st_size < 50_000
    characters, megabytes, error = read(path)
    assert characters <= FREE_BYTES + MAX_EXPANSION * path.stat().st_size
    assert "which text does not; write the text as .jsonl if it is to be read." in error
    assert megabytes < 700


def test_text_that_repeats_itself_much_is_read(tmp_path: Path) -> None:
    """A log of one megabyte that compresses a thousand times, and a column of few values."""
    log = tmp_path / "log.txt.zst"
    log.write_bytes(zst(iter([BLOCK])))
    assert [len(text) for text in read_documents(log, "text")] == [len(BLOCK)]
    table = tmp_path / "few.parquet"
    pq.write_table(pa.table({"text": ["one of two", "the other"] * 5000}), table)
    assert list(read_documents(table, "text")) == ["one of two", "the other"] * 5000


@pytest.mark.parametrize(
    ("name", "content", "remedy"),
    [
        ("long.txt", b"", "a document is longer than 256 MiB; cut it with text.init_args.separator"),
        ("long.jsonl", b'{"text": "', "line 1 is longer than 256 MiB; cut it into several lines"),
    ],
)
def test_a_document_of_more_than_256_mib_is_refused(tmp_path: Path, name: str, content: bytes, remedy: str) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(content)
        for _ in range(MAX_DOCUMENT // len(BLOCK) + 2):
            file.write(BLOCK)
    characters, megabytes, error = read(path)
    assert (characters, remedy in error) == (0, True)
    assert megabytes < 1000


def test_a_long_txt_is_read_document_by_document(tmp_path: Path) -> None:
    """It is longer than a document may be, and never held as a whole."""
    path = tmp_path / "long.txt"
    with path.open("wb") as file:
        for number in range(MAX_DOCUMENT // len(BLOCK) + 2):
            file.write(f"{number} ".encode() + BLOCK + b"\n\n")
    lengths = [len(text) for text in read_documents(path, "text", "\n\n")]
    assert lengths[:11] == [len(BLOCK) + 2] * 10 + [len(BLOCK) + 3]
    assert len(lengths) == MAX_DOCUMENT // len(BLOCK) + 2


@pytest.mark.parametrize("separator", ["aa", "\n\n", "ab", "x"])
@given(text=st.text("ab\n\r", max_size=60))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_pieces_are_cut_as_the_whole_would_be(
    tmp_path: Path, separator: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsae_lightning.data.readers.CHUNK", 3)
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    whole = path.read_text()
    expected = [part for part in whole.split(separator) if part.strip()]
    try:
        assert list(read_documents(path, "text", separator)) == expected
    except InputError:
        assert not expected


def test_too_little_memory_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        for _ in range(240):
            file.write(BLOCK)
    characters, _, error = read(path, memory=2**29)
    assert characters == 0
    assert error == (f"InputError: {path}: this machine has too little memory to read it; give smaller documents.")


def test_a_number_of_many_digits_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "n": ' + "9" * 5000 + "}\n")
    with pytest.raises(InputError, match="line 1 is not JSON of a text"):
        list(read_documents(path, "text"))


def test_names_of_columns_do_not_flood_or_steer_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"\x1b[31mred": 1, "x" * 1000: 2} | {f"c{number}": 0 for number in range(1000)}) + "\n")
    with pytest.raises(InputError) as caught:
        list(read_documents(path, "text"))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    assert "and 962 more" in str(caught.value)


TABLES: list[dict[str, Any]] = [
    {},
    {"compression": "zstd", "data_page_version": "2.0"},
    {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}},
]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    path = tmp_path_factory.mktemp("tables") / "good.parquet"
    written = []
    for options in TABLES:
        pq.write_table(
            pa.table({"text": [f"document {number % 7} of words" for number in range(300)]}), path, **options
        )
        written.append(path.read_bytes())
    return written


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_an_altered_parquet_is_read_or_refused(tmp_path: Path, tables: list[bytes], data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(tables)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(4, len(content) - 9))] = data.draw(st.integers(0, 255))
    path = tmp_path / "altered.parquet"
    path.write_bytes(content)
    try:
        documents = list(read_documents(path, "text"))
    except InputError:
        return
    assert all(isinstance(text, str) for text in documents)


def with_script(folder: Path) -> str:
    (folder / f"{folder.name}.py").write_text("raise SystemExit('executed')")
    return str(folder)


def script(folder: Path) -> str:
    (folder / "load.py").write_text("raise SystemExit('executed')")
    return str(folder / "load.py")


@pytest.mark.parametrize("make", [with_script, script, lambda _: "pandas", lambda _: "iceberg"])
def test_a_data_set_with_code_is_refused(tmp_path: Path, make: Callable[[Path], str]) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"text": "a"}\n')
    assert [document.text for document in HuggingFaceText(str(folder)).documents()] == ["a"]
    with pytest.raises(InputError, match="could execute code of the data: not read"):
        HuggingFaceText(make(folder))


def test_a_bomb_with_a_long_window_is_refused_in_little_memory(tmp_path: Path) -> None:
    options = zstandard.ZstdCompressionParameters(window_log=31, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=options).compressobj()
    path = tmp_path / "bomb.txt.zst"
    path.write_bytes(b"".join(compressor.compress(part) for part in blocks(b"", b"")) + compressor.flush())
    assert path.stat().st_size < 1_000_000
    characters, megabytes, error = read(path)
    assert characters == 0
    assert "which text does not; decompress the file if it is to be read." in error
    assert megabytes < 300

import codecs
import gzip
import json
import lzma
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from vsae_lightning.data.readers import Nulls, read_documents
from vsae_lightning.errors import InputError

DOCUMENTS = ["one two", "línea ünïcode 漢字 🦊", "with\nline\nbreaks", 'quotes " and \\ and \t']
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
COMPRESSED = [suffix for suffix in COMPRESS if suffix]


def json_lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def read(path: Path, column: str = "text", separator: str | None = None) -> list[str]:
    return list(read_documents(path, column, separator))


def read_error(path: Path, column: str = "text") -> str:
    with pytest.raises(InputError) as caught:
        read(path, column)
    return str(caught.value)


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_txt_is_one_document_or_is_cut_at_the_separator(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"file.txt{compression}"
    path.write_bytes(COMPRESS[compression]("\n\n".join(DOCUMENTS).encode()))
    assert read(path) == ["\n\n".join(DOCUMENTS)]
    assert read(path, separator="\n\n") == DOCUMENTS


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_row_of_json_lines_is_a_document(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"file.jsonl{compression}"
    rows = [{"id": number, "body": text} for number, text in enumerate(DOCUMENTS)]
    path.write_bytes(COMPRESS[compression](json_lines(rows)))
    assert read(path, "body") == DOCUMENTS


def test_a_row_of_a_parquet_file_is_a_document(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    table = pa.table({"id": range(len(DOCUMENTS)), "body": DOCUMENTS})
    pq.write_table(table, path, row_group_size=2)
    assert read(path, "body") == DOCUMENTS


@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_file_compressed_in_parts_is_read_to_its_end(tmp_path: Path, compression: str) -> None:
    # Longer than the readers' buffers, for what follows them is what a careless reader loses.
    texts = [f"{number} " + random.Random(number).randbytes(300).hex() for number in range(600)]
    parts = [json_lines([{"text": text} for text in texts[start : start + 200]]) for start in (0, 200, 400)]
    path = tmp_path / f"file.jsonl{compression}"
    path.write_bytes(b"".join(COMPRESS[compression](part) for part in parts))
    assert read(path) == texts


def test_blank_documents_and_lines_are_passed_over(tmp_path: Path) -> None:
    lines = tmp_path / "file.jsonl"
    lines.write_text('\n{"text": "a"}\n   \n{"text": ""}\n{"text": " \\n"}\n{"text": "b"}')
    assert read(lines) == ["a", "b"]
    plain = tmp_path / "file.txt"
    plain.write_text("a||  ||\n||b")
    assert read(plain, separator="||") == ["a", "b"]
    table = tmp_path / "file.parquet"
    pq.write_table(pa.table({"text": ["a", "", None, " ", "b"]}), table)
    assert read(table) == ["a", "b"]


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("name", ["file.txt", "file.jsonl"])
def test_a_file_without_text_is_an_error(tmp_path: Path, name: str, compression: str) -> None:
    path = tmp_path / f"{name}{compression}"
    path.write_bytes(COMPRESS[compression](b" \n\n "))
    message = read_error(path)
    assert path.name in message
    assert "holds no text" in message


def test_a_parquet_file_without_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    assert "holds no text" in read_error(path)


@pytest.mark.parametrize("good_bytes", [3, 30_000])
@pytest.mark.parametrize("compression", COMPRESS)
def test_a_txt_that_is_not_utf8_is_an_error_with_its_place(tmp_path: Path, good_bytes: int, compression: str) -> None:
    path = tmp_path / f"file.txt{compression}"
    path.write_bytes(COMPRESS[compression](b"x" * good_bytes + "é".encode("latin-1")))
    message = read_error(path)
    assert "not UTF-8" in message
    assert f"byte {good_bytes}" in message


@pytest.mark.parametrize("good_lines", [0, 300])
@pytest.mark.parametrize("compression", COMPRESS)
def test_json_lines_that_are_not_utf8_are_an_error_with_their_place(
    tmp_path: Path, good_lines: int, compression: str
) -> None:
    good = json_lines([{"text": "x" * 100}]) * good_lines
    bad = b'{"text": "\xe9"}\n'
    path = tmp_path / f"file.jsonl{compression}"
    path.write_bytes(COMPRESS[compression](good + bad))
    message = read_error(path)
    assert "not UTF-8" in message
    assert f"byte {len(good) + bad.index(0xE9)}" in message or f"line {good_lines + 1}" in message


@pytest.mark.parametrize(
    ("third_line", "reason"),
    [('{"text": "b"', "delimiter"), ("nonsense", "Expecting value"), ("{'text': 'b'}", "name")],
)
def test_a_malformed_line_is_named(tmp_path: Path, third_line: str, reason: str) -> None:
    path = tmp_path / "file.jsonl"
    path.write_text(f'{{"text": "a"}}\n\n{third_line}\n{{"text": "c"}}\n')
    message = read_error(path)
    assert "line 3 is not JSON" in message
    assert reason in message


@pytest.mark.parametrize("row", [{"contents": "b", "id": 7}, {"contents": "b", "content": 3}, {"contents": ["b"]}])
def test_a_missing_column_of_json_lines_names_the_line_and_near_columns(tmp_path: Path, row: dict[str, Any]) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(json_lines([{"content": "a"}, row]))
    message = read_error(path, "content")
    assert "line 2 has no text in column 'content'" in message
    assert f"columns: {', '.join(row)}" in message
    assert "Did you mean" in message
    assert "contents" in message.split("Did you mean")[1]


@pytest.mark.parametrize("row", ["only a string", 3, None])
def test_a_line_that_is_no_object_is_an_error(tmp_path: Path, row: Any) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(json_lines([row]))
    message = read_error(path)
    assert "line 1 has no text in column 'text'" in message
    assert "columns: none" in message


def test_a_missing_column_of_a_parquet_file_names_near_columns(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(pa.table({"id": [1], "contents": ["a"]}), path)
    message = read_error(path, "content")
    assert "no column 'content'; columns: id, contents. Did you mean contents?" in message
    assert "Did you mean" not in read_error(path, "zzz")


@pytest.mark.parametrize("values", [[1, 2], [["a"], ["b"]], [True, False]])
def test_a_parquet_column_that_is_no_text_is_an_error(tmp_path: Path, values: list[Any]) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(pa.table({"text": values}), path)
    assert "text" in read_error(path)


def test_a_parquet_file_that_is_none_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    path.write_bytes(b"PAR1 and nothing that follows from it")
    assert "not a parquet file" in read_error(path)


@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_compressed_parquet_file_is_refused(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"file.parquet{compression}"
    path.write_bytes(b"")
    assert "decompress" in read_error(path)


@pytest.mark.parametrize("name", ["file.csv", "file", "file.csv.gz", "file.gz", "file.TXT", "file.txt.bz2"])
def test_an_unknown_kind_of_file_names_the_known_ones(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"text")
    message = read_error(path)
    assert name in message
    assert "unknown kind of file" in message
    for known in (".txt", ".jsonl", ".parquet", ".gz", ".xz", ".zst"):
        assert known in message


@pytest.mark.parametrize("name", ["file.txt", "file.jsonl"])
@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_file_that_is_not_compressed_as_it_says_is_an_error(tmp_path: Path, compression: str, name: str) -> None:
    path = tmp_path / f"{name}{compression}"
    path.write_bytes(json_lines([{"text": "plain"}]))
    message = read_error(path)
    assert path.name in message
    assert "cannot be read" in message


@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_truncated_file_is_an_error(tmp_path: Path, compression: str) -> None:
    # Several compressed blocks, so that half of the file decompresses to something.
    text = "\n".join(random.Random(number).randbytes(40).hex() for number in range(20_000))
    compressed = COMPRESS[compression](text.encode())
    path = tmp_path / f"file.txt{compression}"
    path.write_bytes(compressed[: len(compressed) // 2])
    message = read_error(path)
    assert path.name in message
    assert "cannot be read" in message


@pytest.mark.parametrize("compression", [".gz", ".xz"])  # zstandard.compress writes no checksum
def test_a_damaged_file_is_an_error(tmp_path: Path, compression: str) -> None:
    text = "\n".join(random.Random(number).randbytes(40).hex() for number in range(2000))
    damaged = bytearray(COMPRESS[compression](text.encode()))
    middle = len(damaged) // 2
    damaged[middle : middle + 64] = bytes(64)
    path = tmp_path / f"file.txt{compression}"
    path.write_bytes(bytes(damaged))
    assert "cannot be read" in read_error(path)


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    assert "cannot be read" in read_error(tmp_path / "gone.txt")
    assert "cannot be read" in read_error(tmp_path / "gone.parquet")


# --------------------------------------------------------------------- nulls


@pytest.mark.parametrize("kind", [".jsonl", ".parquet"])
def test_null_rows_are_left_out_and_counted_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"file{kind}"
    rows = [{"text": text} for text in ("one", None, "two", "", None)]
    if kind == ".jsonl":
        path.write_bytes(json_lines(rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    nulls = Nulls("text")
    assert list(read_documents(path, "text", nulls=nulls)) == ["one", "two"]
    with pytest.warns(UserWarning, match=r"^2 of 5 rows have no text \(null\) in column 'text'; they are left out\.$"):
        nulls.tell()


def test_a_file_without_nulls_is_read_without_a_word(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(json_lines([{"text": "one"}]))
    nulls = Nulls("text")
    assert list(read_documents(path, "text", nulls=nulls)) == ["one"]
    nulls.tell()
    assert not recwarn.list


# ----------------------------------------------------------- byte order marks


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_byte_order_mark_is_no_text(tmp_path: Path, compression: str) -> None:
    lines, text = tmp_path / f"file.jsonl{compression}", tmp_path / f"file.txt{compression}"
    part = codecs.BOM_UTF8 + json_lines([{"text": "one"}])
    lines.write_bytes(COMPRESS[compression](part + part))  # as files are that were joined
    text.write_bytes(COMPRESS[compression](codecs.BOM_UTF8 + "one \ufeff two".encode()))
    assert read(lines) == ["one", "one"]
    assert read(text) == ["one \ufeff two"]


# ---------------------------------------------------------------- long windows


def long_zst(content: bytes) -> bytes:
    """As `zstd --long=28` makes it."""
    options = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=options).compressobj()
    return compressor.compress(content) + compressor.flush()


def test_a_zst_with_a_long_window_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl.zst"
    draws = random.Random(0)
    texts = [" ".join(str(draws.random()) for _ in range(50)) for _ in range(2_000)]
    content = json_lines([{"text": text} for text in texts])
    path.write_bytes(long_zst(content) + long_zst(json_lines([{"text": "a second frame"}])))
    assert read(path) == [*texts, "a second frame"]


@pytest.mark.parametrize("cut", [1, 40, 5_000])
def test_a_zst_with_a_long_window_that_is_torn_is_an_error(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "file.jsonl.zst"
    draws = random.Random(0)
    path.write_bytes(long_zst(json_lines([{"text": str(draws.random())} for _ in range(2_000)]))[:-cut])
    assert "cannot be read: it ends within a frame of zstd" in read_error(path)


def test_a_zst_with_a_long_window_that_is_altered_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file.txt.zst"
    content = bytearray(long_zst(b"some words " * 50 + random.Random(0).randbytes(5_000).hex().encode()))
    content[len(content) // 2] ^= 0xFF
    content[12:16] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(content))
    assert "cannot be read" in read_error(path)


# -------------------------------------------------------------------- mistakes


def test_two_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    texts = pa.array(["a"])
    pq.write_table(pa.table([texts, texts], names=["text", "text"]), path)
    assert read_error(path).endswith("has 2 columns 'text'; rename all but one.")


@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_array_is_called_that(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "file.jsonl"
    path.write_text(json.dumps([{"text": "a"}, {"text": "b"}], indent=indent))
    assert "it is a JSON array, not a JSON object on each line; convert it, e.g. with jq -c '.[]'." in read_error(path)

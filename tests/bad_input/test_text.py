"""Bad text: files that are torn, foreign, or hold no text."""

import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from refusals import Refusal
from vsae_lightning.cli import main

SENTENCES = [f"document {i}: the quick brown fox jumps over a lazy dog and packs my box" for i in range(200)]
LINES = "".join(json.dumps({"text": sentence}) + "\n" for sentence in SENTENCES).encode()
GZ, XZ, ZST = gzip.compress(LINES, mtime=0), lzma.compress(LINES), zstandard.compress(LINES)
FILES: dict[str, tuple[str, bytes, str]] = {
    "empty txt": ("a.txt", b"", "a.txt: holds no text"),
    "blank txt": ("a.txt", b" \n\t\n", "a.txt: holds no text"),
    "empty jsonl": ("a.jsonl", b"", "a.jsonl: holds no text"),
    "jsonl of blank texts": ("a.jsonl", b'{"text": ""}\n{"text": " "}\n', "a.jsonl: holds no text"),
    "empty gz": ("a.txt.gz", b"", "a.txt.gz: holds no text"),
    "empty xz": ("a.txt.xz", b"", "a.txt.xz: cannot be read"),
    "empty zst": ("a.txt.zst", b"", "a.txt.zst"),
    "empty parquet": ("a.parquet", b"", "a.parquet: not a parquet file"),
    "binary txt": ("a.txt", bytes(range(128, 256)) * 9, "a.txt: not UTF-8 (byte 0)"),
    "Latin-1 txt": ("a.txt", "die Gr\xfc\xdfe\n".encode("latin-1"), "a.txt: not UTF-8 (byte 6)"),
    "UTF-16 txt": ("a.txt", "words\n".encode("utf-16"), "a.txt: not UTF-8 (byte 0)"),
    "Latin-1 jsonl": ("a.jsonl", LINES + b'{"text": "Gr\xfc\xdfe"}\n', "line 201 is not UTF-8"),
    "torn gz": ("a.jsonl.gz", GZ[:-40], "a.jsonl.gz: cannot be read"),
    "torn xz": ("a.jsonl.xz", XZ[:-40], "a.jsonl.xz: cannot be read"),
    "torn zst": ("a.jsonl.zst", ZST[:-40], "a.jsonl.zst: cannot be read"),
    "altered gz": ("a.jsonl.gz", GZ[:60] + b"\0\0\0\0" + GZ[64:], "a.jsonl.gz"),
    "altered xz": ("a.jsonl.xz", XZ[:60] + b"\0\0\0\0" + XZ[64:], "a.jsonl.xz"),
    "gz that is none": ("a.txt.gz", b"plain words", "a.txt.gz: cannot be read: Not a gzipped file"),
    "xz that is none": ("a.txt.xz", b"plain words", "a.txt.xz: cannot be read"),
    "zst that is none": ("a.txt.zst", b"plain words", "a.txt.zst: cannot be read"),
    "jsonl broken in the middle": ("a.jsonl", LINES + b'{"text": "half\n' + LINES, "line 201 is not JSON"),
    "jsonl cut short": ("a.jsonl", LINES[:-9], "line 200 is not JSON"),
    "jsonl that is one JSON": ("a.jsonl", json.dumps(SENTENCES, indent=1).encode(), "it is a JSON array"),
    "jsonl of one object": ("a.jsonl", json.dumps({"text": "a"}, indent=1).encode(), "it is one JSON object over"),
    "jsonl of lists": ("a.jsonl", b'["a", "b"]\n', "it is a JSON array, not a JSON object on each"),
    "jsonl of numbers": ("a.jsonl", b"1\n2\n", "line 1 has no text in column 'text'; columns: none"),
    "jsonl with another column": ("a.jsonl", b'{"txet": "a"}\n', "columns: txet. Did you mean txet?"),
    "jsonl with a number": ("a.jsonl", b'{"text": 5}\n', "line 1 has no text in column 'text', but int"),
    "jsonl of nulls": ("a.jsonl", b'{"text": null}\n' * 9, "a.jsonl: holds no text"),
    "jsonl of nested lists": ("a.jsonl", b"[" * 100_000, "it is a JSON array"),
    "parquet that is none": ("a.parquet", LINES, "a.parquet: not a parquet file"),
    "torn parquet": ("a.parquet", b"PAR1" + bytes(50) + b"PAR1", "a.parquet: cannot be read"),
    "parquet compressed": ("a.parquet.gz", GZ, "a.parquet.gz: parquet compresses by itself"),
    "unknown kind": ("a.docx", b"PK\x03\x04", "a.docx: unknown kind of file; known are .txt, .jsonl, .parquet"),
    "csv": ("a.csv", b"text\nwords\n", "a.csv: unknown kind of file"),
    "no suffix": ("README", b"words", "README: unknown kind of file"),
    "too short": ("a.txt", b"few words", "fewer tokens than one context of 16"),
}


def of(paths: str, *more: str) -> list[str]:
    return ["--data.text.paths", paths, *more]


@pytest.mark.parametrize(("name", "content", "expected"), FILES.values(), ids=FILES)
def test_a_bad_file_is_refused(
    name: str, content: bytes, expected: str, plain: list[str], desk: Path, refusal: Refusal
) -> None:
    (desk / name).write_bytes(content)
    assert expected in refusal(["fit", *plain, *of(name, "--data.text.held_out_fraction", "0.0001")])


TABLES = {
    "parquet with another column": ({"content": SENTENCES}, "has no column 'text'; columns: content"),
    "parquet with numbers": ({"text": list(range(9))}, "column 'text' holds int64, not text"),
    "parquet without rows": ({"text": pa.array([], pa.string())}, "holds no text"),
}


@pytest.mark.parametrize(("columns", "expected"), TABLES.values(), ids=TABLES)
def test_a_bad_table_is_refused(
    columns: dict[str, list[str]], expected: str, plain: list[str], desk: Path, refusal: Refusal
) -> None:
    pq.write_table(pa.table(columns), desk / "a.parquet")
    assert expected in refusal(["fit", *plain, *of("a.parquet")])


PATHS = {
    "not there": ("nowhere.txt", "text.init_args.paths: 'nowhere.txt' matches no file"),
    "glob without match": ("*.jsonl.zst", "text.init_args.paths: '*.jsonl.zst' matches no file"),
    "a folder": ("inner", "text.init_args.paths: 'inner' matches no file; it is a folder, so give 'inner/*.jsonl'"),
    "a link to itself": ("loop.txt", "text.init_args.paths: 'loop.txt' matches no file"),
    "empty": ("", "text.init_args.paths is ''; give a file, a glob or several"),
    "very long": ("x" * 5000, "matches no file"),
}


@pytest.mark.parametrize(("paths", "expected"), PATHS.values(), ids=PATHS)
def test_a_bad_path_is_refused(paths: str, expected: str, plain: list[str], desk: Path, refusal: Refusal) -> None:
    (desk / "inner").mkdir()
    (desk / "loop.txt").symlink_to(desk / "loop.txt")
    assert expected in refusal(["fit", *plain, *of(paths)])


HUB = {
    "hub name that is none": ("a b/c d", "neither a local path nor a hub name"),
    "a file": ("base.yaml", "'base.yaml' is a file; give it to TextFiles"),
    "an empty folder": ("inner", "'inner' cannot be loaded"),
}


@pytest.mark.parametrize(("path", "expected"), HUB.values(), ids=HUB)
def test_a_bad_data_set_is_refused(path: str, expected: str, plain: list[str], desk: Path, refusal: Refusal) -> None:
    (desk / "inner").mkdir()
    text = ["--data.text", "HuggingFaceText", "--data.text.path", path]
    assert expected in refusal(["fit", *plain, *text])


STRANGE = (
    b'{"text": "half \\ud83d a pair of surrogates"}\n'
    b'{"text": "nought \\u0000 in it"}\n'
    b"\n  \n"
    b'{"text": "a line end of Windows"}\r\n' + '{"text": "\ufeffmarked"}\n'.encode()
)


def test_strange_text_is_text(plain: list[str], desk: Path) -> None:
    (desk / "a.jsonl").write_bytes(STRANGE + LINES)
    main(["fit", *plain, *of("a.jsonl"), "--trainer.max_steps", "1"])
    assert (desk / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt").is_file()


def test_more_sequences_than_there_are_leave_the_tokens_alone(plain: list[str], desk: Path) -> None:
    """Only the whole text says so; the store of it is whole, and of use to the next try."""
    with pytest.raises(SystemExit):
        main(["fit", *plain, "--data.block_sequences", "800000"])
    assert {path.name for path in desk.iterdir()} == {"base.yaml", "cache"}
    assert len(list((desk / "cache" / "vsae_lightning" / "tokens").iterdir())) == 1

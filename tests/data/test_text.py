import gzip
import hashlib
import json
import lzma
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from vsae_lightning.data.text import BUNDLED, BundledText, Document, HuggingFaceText, TextFiles, is_held_out, key_of
from vsae_lightning.errors import InputError

TEXTS = [f"document {number}: línea {number**2}\nand a second line" for number in range(60)]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


def json_lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write_json_lines(path: Path, texts: list[Any], column: str = "text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json_lines([{column: text} for text in texts]))
    return path


def hash_below(text: str, fraction: float) -> bool:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return sum(byte * 256.0 ** (place - 8) for place, byte in enumerate(digest)) < fraction


# ------------------------------------------------------------------ held out


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.5, 0.9])
def test_the_fraction_held_out_is_the_one_asked_for(fraction: float) -> None:
    count = sum(is_held_out(f"document {number}", fraction) for number in range(5000))
    # Binomial: four standard deviations either way.
    assert abs(count - 5000 * fraction) < 4 * (5000 * fraction * (1 - fraction)) ** 0.5


@pytest.mark.parametrize("fraction", [0.02, 0.3])
def test_a_document_is_held_out_when_its_hash_is_below_the_fraction(fraction: float) -> None:
    texts = [*TEXTS, *(str(number) for number in range(500))]
    assert [is_held_out(text, fraction) for text in texts] == [hash_below(text, fraction) for text in texts]


def test_a_larger_fraction_holds_out_the_same_documents_and_more() -> None:
    texts = [f"document {number}" for number in range(2000)]
    small, large = ({text for text in texts if is_held_out(text, fraction)} for fraction in (0.05, 0.2))
    assert small < large


def test_copies_land_on_one_side_whatever_the_order(tmp_path: Path) -> None:
    first = write_json_lines(tmp_path / "first.jsonl", TEXTS + TEXTS[:20])
    shuffled = random.Random(0).sample(TEXTS, len(TEXTS))
    second = write_json_lines(tmp_path / "second.jsonl", shuffled)
    sides = [
        set(TextFiles(paths, held_out_fraction=0.3).documents())
        for paths in (str(first), str(second), [str(second), str(first)])
    ]
    assert sides[0] == sides[1] == sides[2]
    assert len(sides[0]) == len(TEXTS)  # a text on both sides would be there twice
    assert {document.held_out for document in sides[0]} == {True, False}


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_a_fraction_outside_0_and_1_is_an_error(tmp_path: Path, fraction: float) -> None:
    path = write_json_lines(tmp_path / "file.jsonl", TEXTS)
    with pytest.raises(InputError, match=f"held_out_fraction is {fraction}; it must be between 0 and 1"):
        TextFiles(str(path), held_out_fraction=fraction)
    with pytest.raises(InputError, match="held_out_fraction"):
        HuggingFaceText("json", held_out_fraction=fraction)


# ------------------------------------------------------------------- bundled


def bundled_rows(split: str) -> list[dict[str, str]]:
    with lzma.open(BUNDLED / "text" / f"{split}.jsonl.xz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_bundled_text_is_all_of_its_files_held_out_first() -> None:
    held_out, train = bundled_rows("held_out"), bundled_rows("train")
    expected = [Document(row["text"], True) for row in held_out] + [Document(row["text"], False) for row in train]
    assert list(BundledText().documents()) == expected
    assert len(held_out) > 50
    assert sum(len(row["text"]) for row in train) > 10_000_000


def test_bundled_held_out_works_are_in_no_training_document() -> None:
    held_out, train = bundled_rows("held_out"), bundled_rows("train")
    assert not {row["work"] for row in held_out} & {row["work"] for row in train}
    # Works come in several editions: not even a line of some length may be shared.
    held_out_lines, training_lines = (
        {line.strip() for row in rows for line in row["text"].splitlines() if len(line.strip()) > 40}
        for rows in (held_out, train)
    )
    assert len(held_out_lines) > 5000
    assert not held_out_lines & training_lines


def test_bundled_fingerprint_is_the_hash_of_the_files() -> None:
    expected = {
        split: hashlib.sha256((BUNDLED / "text" / f"{split}.jsonl.xz").read_bytes()).hexdigest()
        for split in ("train", "held_out")
    }
    assert BundledText().fingerprint() == expected


# --------------------------------------------------------------------- files


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("kind", [".txt", ".jsonl"])
def test_every_format_gives_the_same_documents(tmp_path: Path, kind: str, compression: str) -> None:
    content = "\n\n".join(TEXTS).encode() if kind == ".txt" else json_lines([{"text": text} for text in TEXTS])
    path = tmp_path / f"file{kind}{compression}"
    path.write_bytes(COMPRESS[compression](content))
    source = TextFiles(str(path), separator="\n\n", held_out_fraction=0.2)
    assert list(source.documents()) == [Document(text, hash_below(text, 0.2)) for text in TEXTS]


def test_a_parquet_file_gives_the_same_documents(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "file.parquet")
    source = TextFiles(str(tmp_path / "file.parquet"), held_out_fraction=0.2)
    assert list(source.documents()) == [Document(text, hash_below(text, 0.2)) for text in TEXTS]


def test_documents_start_anew_on_every_call(tmp_path: Path) -> None:
    source = TextFiles(str(write_json_lines(tmp_path / "file.jsonl", TEXTS)))
    assert list(source.documents()) == list(source.documents())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.txt", "a.txt", "deep/er/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(Path(name).stem)
    write_json_lines(tmp_path / "deep" / "d.jsonl", ["d"])
    (tmp_path / "folder.txt").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "texts"),
    [
        ("b.txt", "b"),
        ("*.txt", "ab"),
        (["b.txt", "a.txt"], "ba"),
        (["deep/*.jsonl", "*.txt"], "dab"),
        ("**/*.txt", "abc"),
        ("[ab].txt", "ab"),
    ],
)
def test_paths_may_be_globs_sorted_within_each(tree: Path, patterns: str | list[str], texts: str) -> None:
    paths = str(tree / patterns) if isinstance(patterns, str) else [str(tree / pattern) for pattern in patterns]
    assert [document.text for document in TextFiles(paths).documents()] == list(texts)


def test_a_tilde_is_the_home_folder(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree))
    assert [document.text for document in TextFiles("~/a.txt").documents()] == ["a"]


@pytest.mark.parametrize("pattern", ["nothing.txt", "*.parquet", "folder.txt"])
def test_a_path_that_matches_no_file_is_an_error(tree: Path, pattern: str) -> None:
    with pytest.raises(InputError, match="matches no file") as caught:
        TextFiles([str(tree / "a.txt"), str(tree / pattern)])
    assert pattern in str(caught.value)


def test_one_bad_file_among_good_ones_is_named(tree: Path) -> None:
    (tree / "b.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"b\.txt: not UTF-8"):
        list(TextFiles(str(tree / "*.txt")).documents())


@pytest.mark.parametrize("change", [{"column": "body"}, {"separator": "\n\n"}, {"held_out_fraction": 0.03}])
def test_the_fingerprint_of_files_changes_with_every_option(tmp_path: Path, change: dict[str, Any]) -> None:
    path = str(write_json_lines(tmp_path / "file.jsonl", TEXTS))
    assert TextFiles(path).fingerprint() == TextFiles(path).fingerprint()
    assert key_of(TextFiles(path, **change).fingerprint()) != key_of(TextFiles(path).fingerprint())


def test_the_fingerprint_of_files_changes_with_the_files(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path / "one.jsonl", TEXTS)
    pattern = str(tmp_path / "*.jsonl")
    keys = [key_of(TextFiles(pattern).fingerprint())]
    write_json_lines(path, TEXTS[:-1])
    keys.append(key_of(TextFiles(pattern).fingerprint()))
    write_json_lines(path, [*TEXTS[:-2], TEXTS[-2].upper()])  # of the same size
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1_000))
    keys.append(key_of(TextFiles(pattern).fingerprint()))
    write_json_lines(tmp_path / "two.jsonl", TEXTS)
    keys.append(key_of(TextFiles(pattern).fingerprint()))
    assert len(set(keys)) == 4


def test_keys_are_short_names_of_values_whatever_their_order() -> None:
    assert key_of({"a": 1, "b": [2, None]}) == key_of({"b": [2, None], "a": 1})
    assert key_of({"a": 1, "b": [2, None]}) == hashlib.sha256(b'{"a": 1, "b": [2, null]}').hexdigest()[:16]


# -------------------------------------------------------------- Hugging Face


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets_cache")


@pytest.fixture(params=[True, False], ids=["streaming", "downloaded"])
def streaming(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def local(path: Path, **options: Any) -> HuggingFaceText:
    loader = "parquet" if path.suffix == ".parquet" else "json"
    return HuggingFaceText(loader, load_args={"data_files": str(path)}, **options)


def load_error(source: HuggingFaceText) -> str:
    with pytest.raises(InputError) as caught:
        list(source.documents())
    return str(caught.value)


@pytest.mark.parametrize("kind", [".jsonl", ".parquet"])
def test_a_local_dataset_gives_the_documents_of_its_file(tmp_path: Path, kind: str, streaming: bool) -> None:
    path = tmp_path / f"file{kind}"
    pq.write_table(pa.table({"body": TEXTS}), path) if kind == ".parquet" else write_json_lines(path, TEXTS, "body")
    source = local(path, column="body", held_out_fraction=0.2, streaming=streaming)
    expected = [Document(text, hash_below(text, 0.2)) for text in TEXTS]
    assert list(source.documents()) == expected
    assert list(TextFiles(str(path), column="body", held_out_fraction=0.2).documents()) == expected


@pytest.mark.parametrize("held_out_split", ["validation", "test"])
def test_a_held_out_split_comes_first_and_the_rest_is_trained_on(
    tmp_path: Path, held_out_split: str, streaming: bool
) -> None:
    for split, texts in {"train": TEXTS, "validation": ["v1", "v2"], "test": ["t"]}.items():
        write_json_lines(tmp_path / "data" / f"{split}.jsonl", texts)
    source = HuggingFaceText(
        str(tmp_path / "data"), held_out_split=held_out_split, held_out_fraction=0.5, streaming=streaming
    )
    held_out = ["v1", "v2"] if held_out_split == "validation" else ["t"]
    assert list(source.documents()) == [Document(text, True) for text in held_out] + [
        Document(text, False) for text in TEXTS
    ]


def test_the_split_that_is_read_can_be_chosen(tmp_path: Path, streaming: bool) -> None:
    for split in ("train", "test"):
        write_json_lines(tmp_path / "data" / f"{split}.jsonl", [split])
    source = HuggingFaceText(str(tmp_path / "data"), split="test", streaming=streaming)
    assert [document.text for document in source.documents()] == ["test"]


def test_blank_rows_of_a_dataset_are_passed_over_as_in_files(tmp_path: Path, streaming: bool) -> None:
    path = write_json_lines(tmp_path / "file.jsonl", ["a", "", " \n", "b"])
    documents = list(local(path, streaming=streaming).documents())
    assert documents == list(TextFiles(str(path), held_out_fraction=0.01).documents())
    assert [document.text for document in documents] == ["a", "b"]


def test_a_row_of_a_dataset_without_text_is_passed_over_or_an_error(tmp_path: Path, streaming: bool) -> None:
    path = write_json_lines(tmp_path / "file.jsonl", ["a", None, "b"])
    try:
        documents = list(local(path, streaming=streaming).documents())
    except InputError as error:
        assert "text" in str(error)  # noqa: PT017, either outcome is right, a traceback is not
    else:
        assert [document.text for document in documents] == ["a", "b"]


def test_a_column_of_a_dataset_that_is_no_text_is_an_error(tmp_path: Path, streaming: bool) -> None:
    path = write_json_lines(tmp_path / "file.jsonl", [1, 2])
    assert "'text'" in load_error(local(path, streaming=streaming))


def test_a_missing_column_of_a_dataset_names_near_columns(tmp_path: Path, streaming: bool) -> None:
    path = write_json_lines(tmp_path / "file.jsonl", TEXTS, "contents")
    message = load_error(local(path, column="content", streaming=streaming))
    assert "text.init_args.column: 'json' has no column 'content', only contents. Did you mean contents?" in message


def test_a_split_that_does_not_exist_is_an_error_that_names_those_that_do(tmp_path: Path, streaming: bool) -> None:
    path = write_json_lines(tmp_path / "file.jsonl", TEXTS)
    message = load_error(local(path, split="validation", streaming=streaming))
    assert "validation" in message
    assert "train" in message


@pytest.mark.parametrize("content", [b"", b'{"text": "a"}\n{"text": \n', b"not json"], ids=["empty", "cut", "no-json"])
def test_a_data_file_that_cannot_be_parsed_is_an_error(tmp_path: Path, content: bytes, streaming: bool) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(content)
    assert "text.init_args" in load_error(local(path, streaming=streaming))


def test_a_late_line_that_cannot_be_parsed_is_an_error(tmp_path: Path, streaming: bool) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(json_lines([{"text": "x" * 1000}]) * 200 + b'{"text": \n')
    source = local(path, streaming=streaming)
    source.load_args["chunksize"] = 10_000
    assert "text.init_args" in load_error(source)


def test_a_missing_data_file_is_an_error(tmp_path: Path, streaming: bool) -> None:
    assert "gone.jsonl" in load_error(local(tmp_path / "gone.jsonl", streaming=streaming))


def test_a_folder_without_data_is_an_error(tmp_path: Path, streaming: bool) -> None:
    (tmp_path / "data").mkdir()
    message = load_error(HuggingFaceText(str(tmp_path / "data"), streaming=streaming))
    assert "text.init_args.path" in message
    assert "data files" in message


@pytest.mark.parametrize("path", ["./gone", "/gone/entirely", "gone/from/here"])
def test_a_path_that_is_neither_here_nor_a_hub_name_is_an_error(path: str, streaming: bool) -> None:
    message = load_error(HuggingFaceText(path, streaming=streaming))
    assert f"text.init_args.path: '{path}' is neither a local path nor a hub name" in message


def test_a_file_given_for_a_dataset_is_an_error_that_says_how_to_give_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    from huggingface_hub import constants

    # Where the hub is asked at all, let it fail at once instead of after all its retries.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    write_json_lines(tmp_path / "file.jsonl", TEXTS)
    message = load_error(HuggingFaceText("file.jsonl"))
    assert "data_files" in message or "TextFiles" in message


@pytest.mark.parametrize(
    "change",
    [
        {"path": "parquet"},
        {"name": "subset"},
        {"split": "test"},
        {"column": "body"},
        {"revision": "v2"},
        {"held_out_split": "validation"},
        {"held_out_fraction": 0.02},
        {"load_args": {"data_files": "two.jsonl"}},
    ],
)
def test_the_fingerprint_of_a_dataset_changes_with_every_option(change: dict[str, Any]) -> None:
    options: dict[str, Any] = {"path": "json", "load_args": {"data_files": "one.jsonl"}}
    same = [key_of(HuggingFaceText(**options, streaming=streaming).fingerprint()) for streaming in (True, False)]
    assert same[0] == same[1]
    assert key_of(HuggingFaceText(**(options | change)).fingerprint()) != same[0]


@pytest.mark.parametrize("given_as", ["data_files", "list of data_files", "data_files by split", "folder"])
def test_the_fingerprint_of_a_local_dataset_changes_with_its_files(tmp_path: Path, given_as: str) -> None:
    path = write_json_lines(tmp_path / "data" / "train.jsonl", TEXTS)
    data_files: dict[str, Any] = {
        "data_files": str(path),
        "list of data_files": [str(path)],
        "data_files by split": {"train": str(path)},
    }

    def key() -> str:
        if given_as == "folder":
            return key_of(HuggingFaceText(str(path.parent)).fingerprint())
        return key_of(HuggingFaceText("json", load_args={"data_files": data_files[given_as]}).fingerprint())

    before = key()
    assert key() == before
    write_json_lines(path, TEXTS[:-1])
    assert key() != before


# ----------------------------------------------------------------- as typed


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (r"\n\n", "\n\n"),
        (r"\t", "\t"),
        (r"\n---\n", "\n---\n"),
        (r"\r\n\r\n", "\n\n"),
        ("\r\n", "\n"),
        (r"\newpage", r"\newpage"),
        ("\n\n", "\n\n"),
        ("###", "###"),
    ],
)
def test_a_separator_is_meant_as_it_is_typed_in_a_shell(tmp_path: Path, typed: str, meant: str) -> None:
    path = tmp_path / "file.txt"
    path.write_text(meant.join(["one", "two", "three"]))
    source = TextFiles(str(path), separator=typed)
    assert [document.text for document in source.documents()] == ["one", "two", "three"]
    assert source.fingerprint() == TextFiles(str(path), separator=meant).fingerprint()


# --------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("corpus [v2]/plain.jsonl", "corpus [v2]/plain.jsonl"),
        ("corpus [v2]/plain.jsonl", "corpus [v2]/*.jsonl"),
        ("corpus [v2]/a/b.jsonl", "corpus [v2]/**/*.jsonl"),
        ("a[12].jsonl", "a[12].jsonl"),
        ("a*.jsonl", "a*.jsonl"),
    ],
)
def test_a_name_that_is_there_is_taken_literally(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, pattern: str
) -> None:
    write_json_lines(tmp_path / name, ["literal"])
    write_json_lines(tmp_path / "a1.jsonl", ["a glob's"])
    for given in (str(tmp_path / pattern), pattern):
        monkeypatch.chdir(tmp_path)
        assert [document.text for document in TextFiles(given).documents()] == ["literal"]


def test_brackets_are_a_glob_where_no_file_has_the_name(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_json_lines(tmp_path / f"a{number}.jsonl", [f"text {number}"])
    source = TextFiles(str(tmp_path / "a[12].jsonl"))
    assert [document.text for document in source.documents()] == ["text 1", "text 2"]


# --------------------------------------------------------------------- nulls


@pytest.mark.parametrize("source", ["files", "parquet", "json"])
def test_null_rows_are_left_out_of_every_source(tmp_path: Path, source: str) -> None:
    lines = write_json_lines(tmp_path / "a.jsonl", ["one", None, "two"])
    table = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["one", None, "two"]}), table)
    text = {
        "files": lambda: TextFiles([str(lines), str(table)]),
        "parquet": lambda: HuggingFaceText("parquet", load_args={"data_files": str(table)}),
        "json": lambda: HuggingFaceText("json", load_args={"data_files": str(lines)}),
    }[source]()
    copies = 2 if source == "files" else 1
    with pytest.warns(UserWarning, match=rf"^{copies} of {3 * copies} rows have no text \(null\)"):
        assert [document.text for document in text.documents()] == ["one", "two"] * copies

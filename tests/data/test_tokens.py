import json
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from vsae_lightning.data.text import Document, TextFiles, TextSource
from vsae_lightning.data.tokens import TokenStore, default_cache_dir
from vsae_lightning.errors import InputError

EOS, BOS, A, B, C, D, E, F = range(8)
VOCABULARY = {"<eos>": EOS, "<bos>": BOS, "a": A, "b": B, "c": C, "d": D, "e": E, "f": F}


class Documents(TextSource):
    """Documents from a list, counting how often and how far they are read."""

    def __init__(self, documents: list[Document], name: str = "documents") -> None:
        self.list = documents
        self.name = name
        self.calls = 0
        self.read = 0

    def documents(self) -> Iterator[Document]:
        self.calls += 1
        for document in self.list:
            self.read += 1
            yield document

    def fingerprint(self) -> dict[str, Any]:
        return {"name": self.name}


class Broken(Documents):
    """Fails after the last document."""

    def __init__(self, documents: list[Document], error: type[BaseException]) -> None:
        super().__init__(documents)
        self.error = error

    def documents(self) -> Iterator[Document]:
        yield from super().documents()
        raise self.error("half way")


def word_tokenizer(vocabulary: dict[str, int] = VOCABULARY, **special: str | None) -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<eos>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, **({"eos_token": "<eos>", "bos_token": "<bos>"} | special))


def train(*texts: str) -> list[Document]:
    return [Document(text, held_out=False) for text in texts]


def held_out(*texts: str) -> list[Document]:
    return [Document(text, held_out=True) for text in texts]


def inodes(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


MIXED = [
    *train("a b c"),
    *held_out("f f"),
    *train("d e"),
    *held_out("e", "d c"),
    *train("b"),
]


# ------------------------------------------------------------------- packing


def test_documents_of_a_split_are_joined_by_eos_and_cut_into_rows(tmp_path: Path) -> None:
    store = TokenStore.prepare(Documents(MIXED), word_tokenizer(), 4, cache_dir=tmp_path)
    # train: a b c EOS d e EOS b EOS, of which the last does not fill a row; held out: f f EOS e EOS d c EOS
    assert store.train.tolist() == [[A, B, C, EOS], [D, E, EOS, B]]
    assert store.held_out.tolist() == [[F, F, EOS, E], [EOS, D, C, EOS]]


def test_every_row_starts_with_bos_where_asked(tmp_path: Path) -> None:
    store = TokenStore.prepare(Documents(MIXED), word_tokenizer(), 4, prepend_bos=True, cache_dir=tmp_path)
    assert store.train.tolist() == [[BOS, A, B, C], [BOS, EOS, D, E], [BOS, EOS, B, EOS]]
    assert store.held_out.tolist() == [[BOS, F, F, EOS], [BOS, E, EOS, D]]


@pytest.mark.parametrize("context_length", [1, 2, 9])
def test_what_does_not_fill_a_row_is_dropped(tmp_path: Path, context_length: int) -> None:
    documents = [*MIXED, *held_out("a b c d e f a")]
    store = TokenStore.prepare(Documents(documents), word_tokenizer(), context_length, cache_dir=tmp_path)
    stream = [A, B, C, EOS, D, E, EOS, B, EOS]
    rows = len(stream) // context_length
    assert store.train.shape == (rows, context_length)
    assert store.train.ravel().tolist() == stream[: rows * context_length]


@pytest.mark.parametrize("prepend_bos", [False, True])
def test_many_documents_are_packed_as_if_tokenised_at_once(tmp_path: Path, prepend_bos: bool) -> None:
    numbers = np.random.default_rng(0)
    words = [[int(word) for word in numbers.integers(A, F + 1, numbers.integers(1, 9))] for _ in range(1500)]
    names = list(VOCABULARY)
    documents = [
        Document(" ".join(names[word] for word in document), held_out=number % 3 == 0)
        for number, document in enumerate(words)
    ]
    store = TokenStore.prepare(Documents(documents), word_tokenizer(), 7, prepend_bos, cache_dir=tmp_path)
    content = 6 if prepend_bos else 7
    for split, chosen in ((store.held_out, words[::3]), (store.train, [d for n, d in enumerate(words) if n % 3])):
        stream = list(chain.from_iterable([*document, EOS] for document in chosen))
        rows = np.array(stream[: len(stream) // content * content]).reshape(-1, content)
        assert np.array_equal(split[:, 7 - content :], rows)
        assert np.all(split[:, : 7 - content] == BOS)


def test_the_tokenizer_adds_no_special_tokens_of_its_own(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = word_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A <bos>", special_tokens=[("<bos>", BOS)]
    )
    assert tokenizer("a")["input_ids"] == [BOS, A, BOS]
    store = TokenStore.prepare(Documents(MIXED), tokenizer, 4, cache_dir=tmp_path)
    assert BOS not in store.train
    assert BOS not in store.held_out


def test_a_document_longer_than_the_model_reads_is_not_truncated(tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    tokenizer.model_max_length = 3
    documents = [*train("a b c d e f " * 10), *held_out("a b c d")]
    store = TokenStore.prepare(Documents(documents), tokenizer, 5, cache_dir=tmp_path)
    assert store.train.ravel().tolist() == ([A, B, C, D, E, F] * 10)[:60]


def test_tokens_of_a_real_tokenizer_decode_to_the_documents(tmp_path: Path, tiny_model: Path, corpus: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    source = TextFiles(str(corpus), separator="\n\n", held_out_fraction=0.2)
    store = TokenStore.prepare(source, tokenizer, 8, cache_dir=tmp_path)
    for split, side in ((store.train, False), (store.held_out, True)):
        expected = "".join(
            f"{document.text}<|endoftext|>" for document in source.documents() if document.held_out is side
        )
        decoded = tokenizer.decode(split.ravel().tolist())
        assert expected.startswith(decoded)
        assert len(expected) - len(decoded) < 8 * 8  # less than a row: no token has more than 8 letters


# ----------------------------------------------------------------- data type


@pytest.mark.parametrize(("size", "dtype"), [(2**16, np.uint16), (2**16 + 1, np.uint32)])
def test_ids_take_as_many_bytes_as_the_vocabulary_needs(tmp_path: Path, size: int, dtype: type[np.generic]) -> None:
    vocabulary = {"<eos>": EOS, "<bos>": BOS} | {f"w{number}": number for number in range(2, size)}
    source = Documents([*train(f"w{size - 1} w2"), *held_out(f"w{size - 1}")])
    store = TokenStore.prepare(source, word_tokenizer(vocabulary), 2, cache_dir=tmp_path)
    assert store.train.dtype == store.held_out.dtype == dtype
    assert store.train.tolist() == [[size - 1, 2]]
    assert store.held_out.tolist() == [[size - 1, EOS]]
    assert (tmp_path / store.key / "train.bin").stat().st_size == 2 * np.dtype(dtype).itemsize


def test_the_store_is_mapped_from_disk_and_cannot_be_written(tmp_path: Path) -> None:
    store = TokenStore.prepare(Documents(MIXED), word_tokenizer(), 4, cache_dir=tmp_path)
    assert isinstance(store.train, np.memmap)
    assert isinstance(store.held_out, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.train[0, 0] = 1


# --------------------------------------------------------------------- cache


def test_a_second_preparation_reads_no_text_and_writes_nothing(tmp_path: Path) -> None:
    first = TokenStore.prepare(Documents(MIXED), word_tokenizer(), 4, cache_dir=tmp_path)
    before = inodes(tmp_path / first.key)
    again = Documents(MIXED)
    second = TokenStore.prepare(again, word_tokenizer(), 4, cache_dir=tmp_path)
    assert again.calls == 0
    assert inodes(tmp_path / second.key) == before
    assert [path.name for path in tmp_path.iterdir()] == [first.key] == [second.key]
    assert np.array_equal(first.train, second.train)
    assert np.array_equal(first.held_out, second.held_out)


class OtherDocuments(Documents):
    """Another class with the same fingerprint."""


@pytest.mark.parametrize(
    "change",
    [
        {"context_length": 3},
        {"prepend_bos": True},
        {"max_tokens": 4},
        {"text": Documents(MIXED, "others")},
        {"text": OtherDocuments(MIXED)},
        {"tokenizer": word_tokenizer(VOCABULARY | {"g": 8})},
        {"tokenizer": word_tokenizer(eos_token="f")},
        {"tokenizer": word_tokenizer(eos_token="<bos>", bos_token="<eos>")},
    ],
    ids=["context_length", "prepend_bos", "max_tokens", "fingerprint", "class", "vocabulary", "eos", "roles"],
)
def test_whatever_changes_the_tokens_changes_the_store(tmp_path: Path, change: dict[str, Any]) -> None:
    options: dict[str, Any] = {"text": Documents(MIXED), "tokenizer": word_tokenizer(), "context_length": 4}
    store = TokenStore.prepare(**options, cache_dir=tmp_path)
    other = TokenStore.prepare(**(options | change), cache_dir=tmp_path)
    assert other.key != store.key
    assert {path.name for path in tmp_path.iterdir()} == {store.key, other.key}


def test_stores_of_tokenizers_that_differ_in_the_roles_of_their_tokens_are_not_mixed_up(tmp_path: Path) -> None:
    # As the tokenizers of a base and of an instruct model may.
    TokenStore.prepare(Documents(MIXED), word_tokenizer(), 4, prepend_bos=True, cache_dir=tmp_path)
    swapped = word_tokenizer(eos_token="<bos>", bos_token="<eos>")
    store = TokenStore.prepare(Documents(MIXED), swapped, 4, prepend_bos=True, cache_dir=tmp_path)
    assert store.train.tolist() == [[EOS, A, B, C], [EOS, BOS, D, E], [EOS, BOS, B, BOS]]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def alter(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("train.bin", truncate),
        ("train.bin", alter),
        ("held_out.bin", alter),
        ("held_out.bin", truncate),
        ("train.bin", append),
        ("train.bin", Path.unlink),
        ("held_out.bin", Path.unlink),
        ("store.json", Path.unlink),
        ("store.json", truncate),
        ("store.json", lambda path: path.write_text("{}")),
        ("store.json", lambda path: path.write_text("[]")),
        ("store.json", lambda path: path.write_bytes(b"\xff\xfe")),
    ],
)
def test_a_torn_store_is_made_again(tmp_path: Path, name: str, damage: Callable[[Path], Any]) -> None:
    first = TokenStore.prepare(Documents(MIXED), word_tokenizer(), 4, cache_dir=tmp_path / "torn")
    whole = tmp_path / "whole"
    shutil.copytree(tmp_path / "torn" / first.key, whole)
    damage(tmp_path / "torn" / first.key / name)
    (tmp_path / "torn" / f".{first.key}.left").mkdir()  # by a process that was killed
    source = Documents(MIXED)
    with pytest.warns(UserWarning, match=f"{first.key} is damaged; it is made anew"):
        store = TokenStore.prepare(source, word_tokenizer(), 4, cache_dir=tmp_path / "torn")
    assert source.calls == 1
    assert store.train.tolist() == [[A, B, C, EOS], [D, E, EOS, B]]
    assert store.held_out.tolist() == [[F, F, EOS, E], [EOS, D, C, EOS]]
    for path in whole.iterdir():
        assert (tmp_path / "torn" / store.key / path.name).read_bytes() == path.read_bytes()
    assert [path.name for path in (tmp_path / "torn").iterdir()] == [store.key]


@pytest.mark.parametrize("error", [RuntimeError, InputError, KeyboardInterrupt])
@pytest.mark.parametrize("documents", [0, 3, 600])
def test_a_failure_half_way_leaves_nothing_behind(tmp_path: Path, error: type[BaseException], documents: int) -> None:
    source = Broken([*held_out("a b c d"), *train("a b c d")] * (documents // 2), error)
    with pytest.raises(error, match="half way"):
        TokenStore.prepare(source, word_tokenizer(), 4, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_other_stores_alone(tmp_path: Path) -> None:
    store = TokenStore.prepare(Documents(MIXED), word_tokenizer(), 4, cache_dir=tmp_path)
    before = inodes(tmp_path / store.key)
    with pytest.raises(RuntimeError):
        TokenStore.prepare(Broken(MIXED, RuntimeError), word_tokenizer(), 4, cache_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [store.key]
    assert inodes(tmp_path / store.key) == before


def test_stores_are_kept_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache_dir() == tmp_path / "home" / ".cache" / "vsae_lightning" / "tokens"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = TokenStore.prepare(Documents(MIXED), word_tokenizer(), 4)
    layout = json.loads((tmp_path / "cache" / "vsae_lightning" / "tokens" / store.key / "store.json").read_text())
    assert layout["rows"] == {"train": 2, "held_out": 2}


# ---------------------------------------------------------------------- size


@pytest.mark.parametrize("max_tokens", [20, 400])
def test_no_more_training_tokens_than_asked_for(tmp_path: Path, max_tokens: int) -> None:
    source = Documents([*held_out("a b c d"), *train(*["a b c d"] * 3000)])
    store = TokenStore.prepare(source, word_tokenizer(), 5, max_tokens=max_tokens, cache_dir=tmp_path)
    assert store.train.size == max_tokens
    assert store.train.tolist() == [[A, B, C, D, EOS]] * (max_tokens // 5)


@pytest.mark.parametrize("max_tokens", [20, 4000])
def test_text_behind_the_last_token_asked_for_is_hardly_read(tmp_path: Path, max_tokens: int) -> None:
    source = Documents([*held_out("a b c d"), *train(*["a b c d"] * 3000)])
    store = TokenStore.prepare(source, word_tokenizer(), 5, max_tokens=max_tokens, cache_dir=tmp_path)
    assert store.train.size >= max_tokens
    assert source.read <= 1 + max_tokens // 5 + 256


def test_all_of_the_text_is_taken_where_it_is_less_than_asked_for(tmp_path: Path) -> None:
    store = TokenStore.prepare(Documents(MIXED), word_tokenizer(), 4, max_tokens=1_000_000, cache_dir=tmp_path)
    assert store.train.shape == store.held_out.shape == (2, 4)


@pytest.mark.parametrize(
    ("documents", "split"),
    [
        ([*train("a b"), *held_out("a b c d")], "train"),
        ([*train("a b c d"), *held_out("a b")], "held_out"),
        (train("a b c d"), "held_out"),
        (held_out("a b c d"), "train"),
        ([], "train"),
    ],
)
def test_less_text_than_one_context_is_an_error(tmp_path: Path, documents: list[Document], split: str) -> None:
    with pytest.raises(InputError, match=f"the {split} documents hold fewer tokens than one context of 4"):
        TokenStore.prepare(Documents(documents), word_tokenizer(), 4, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        (word_tokenizer(eos_token=None), "no end-of-text token"),
        (word_tokenizer(bos_token=None), "prepend_bos is true, but the tokenizer has no BOS token"),
    ],
)
def test_a_token_that_is_needed_and_missing_is_an_error_before_text_is_read(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, words: str
) -> None:
    source = Documents(MIXED)
    with pytest.raises(InputError, match=words):
        TokenStore.prepare(source, tokenizer, 4, prepend_bos=True, cache_dir=tmp_path)
    assert source.read == 0


def test_no_bos_token_is_needed_where_none_is_prepended(tmp_path: Path) -> None:
    store = TokenStore.prepare(Documents(MIXED), word_tokenizer(bos_token=None), 4, cache_dir=tmp_path)
    assert store.train.tolist() == [[A, B, C, EOS], [D, E, EOS, B]]


def test_text_with_half_a_surrogate_pair_is_tokenised_or_an_error(tmp_path: Path, tiny_model: Path) -> None:
    # JSON may hold one (a tweet cut in an emoji); UTF-8 cannot.
    path = tmp_path / "file.jsonl"
    path.write_text('{"text": "the quick brown \\ud83e"}\n' + '{"text": "jumps over a lazy dog"}\n' * 3)
    source = TextFiles(str(path), held_out_fraction=0.5)
    assert {document.held_out for document in source.documents()} == {True, False}
    try:
        store = TokenStore.prepare(source, AutoTokenizer.from_pretrained(tiny_model), 2, cache_dir=tmp_path / "cache")
    except InputError as error:
        assert "file.jsonl" in str(error)  # noqa: PT017, either outcome is right, a traceback is not
    else:
        assert len(store.train) * len(store.held_out) > 0


# ---------------------------------------------------------------------- tail


class Cut(Documents):
    """Documents of which the end is held out where none is."""

    def tail_fraction(self) -> float | None:
        return 0.1


def letters(count: int) -> str:
    """Make this many words, of which no two rows are alike."""
    return " ".join("abcdef"[(number + number // 6) % 6] for number in range(count))


def test_the_end_of_a_single_document_is_held_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = letters(403)
    with caplog.at_level("INFO"):
        store = TokenStore.prepare(Cut(train(text)), word_tokenizer(), 4, cache_dir=tmp_path)
    ids = np.array([VOCABULARY[word] for word in text.split()] + [EOS]).reshape(101, 4)
    assert np.array_equal(store.held_out, ids[-10:])
    assert np.array_equal(store.train, ids[:-11])  # a gap of one row
    assert "its last 40 tokens are held out instead, after a gap of 4; 360 are trained on." in caplog.text
    again = TokenStore.prepare(Cut(train(text)), word_tokenizer(), 4, cache_dir=tmp_path)
    assert again.digests == store.digests


def test_a_single_document_that_is_held_out_by_its_hash_is_cut_as_well(tmp_path: Path) -> None:
    store = TokenStore.prepare(Cut(held_out(letters(403))), word_tokenizer(), 4, cache_dir=tmp_path)
    assert (len(store.train), len(store.held_out)) == (90, 10)


@pytest.mark.parametrize(("max_tokens", "rows"), [(4, 1), (36, 9), (180, 45), (10**6, 90)])
def test_a_limit_of_tokens_counts_those_that_are_trained_on(tmp_path: Path, max_tokens: int, rows: int) -> None:
    options = {"max_tokens": max_tokens, "cache_dir": tmp_path}
    store = TokenStore.prepare(Cut(train(letters(403))), word_tokenizer(), 4, **options)  # type: ignore[arg-type]
    assert len(store.train) == rows
    assert len(store.held_out) == max(1, round(rows / 9))


def test_a_few_documents_none_of_which_is_held_out_are_cut(tmp_path: Path) -> None:
    store = TokenStore.prepare(Cut(train(letters(200), letters(202))), word_tokenizer(), 4, cache_dir=tmp_path)
    assert (len(store.train), len(store.held_out)) == (90, 10)


def test_documents_with_held_out_ones_are_not_cut(tmp_path: Path) -> None:
    store = TokenStore.prepare(Cut(train(letters(403)) + held_out("a b c")), word_tokenizer(), 4, cache_dir=tmp_path)
    assert (len(store.train), len(store.held_out)) == (101, 1)


def test_a_document_of_two_rows_cannot_be_cut(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the held_out documents hold fewer tokens than one context of 4"):
        TokenStore.prepare(Cut(train(letters(8))), word_tokenizer(), 4, cache_dir=tmp_path)
    store = TokenStore.prepare(Cut(train(letters(12))), word_tokenizer(), 4, cache_dir=tmp_path)
    assert (len(store.train), len(store.held_out)) == (1, 1)


@pytest.mark.parametrize("name", ["book.txt", "book.jsonl"])
def test_the_end_of_a_single_file_is_held_out(tmp_path: Path, name: str) -> None:
    text = letters(400)
    (tmp_path / name).write_text(text if name.endswith("txt") else json.dumps({"text": text}))
    source = TextFiles(str(tmp_path / name), held_out_fraction=0.25)
    store = TokenStore.prepare(source, word_tokenizer(), 4, cache_dir=tmp_path)
    assert (len(store.train), len(store.held_out)) == (74, 25)


# --------------------------------------------------------- ids without a row


def test_a_token_that_the_model_does_not_know_is_refused_by_name(tmp_path: Path) -> None:
    gaps = word_tokenizer(VOCABULARY | {"f": 70_000})
    expected = r"the text has the token 'f' \(id 70000\), but the language model knows only ids below 7"
    with pytest.raises(InputError, match=expected):
        TokenStore.prepare(Documents(MIXED), gaps, 2, cache_dir=tmp_path, embeddings=7)
    store = TokenStore.prepare(Documents(MIXED), gaps, 2, cache_dir=tmp_path, embeddings=70_001)
    assert int(store.held_out.max()) == 70_000
    with pytest.raises(InputError, match=expected):  # of a store that another model has made
        TokenStore.prepare(Documents(MIXED), gaps, 2, cache_dir=tmp_path, embeddings=7)


def test_a_token_that_no_text_has_is_no_hindrance(tmp_path: Path) -> None:
    more = word_tokenizer(VOCABULARY | {"<image>": 8})
    store = TokenStore.prepare(Documents(MIXED), more, 2, cache_dir=tmp_path, embeddings=8)
    assert store.train.max() < 8

"""Token stores that a stranger made: nothing is read beyond them, waited for, or removed but a store."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from refusals import listing
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.data.text import Document, TextSource
from vsae_lightning.data.tokens import TokenStore
from vsae_lightning.errors import InputError

VOCABULARY = {"<eos>": 0, "a": 1, "b": 2, "c": 3}
TRAIN = [[1, 2], [3, 0], [1, 1], [0, 2], [2, 2], [2, 0]]
Spoil = Callable[[Path], Any]


class Words(TextSource):
    """Three documents to train on and one held out."""

    def documents(self) -> Iterator[Document]:
        yield from (Document(text, held_out=False) for text in ("a b c", "a a", "b b b b"))
        yield Document("c b a c", held_out=True)

    def fingerprint(self) -> dict[str, Any]:
        return {"words": 1}


def tokenizer(vocabulary: dict[str, int] = VOCABULARY) -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<eos>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>")


def prepare(cache: Path) -> TokenStore:
    return TokenStore.prepare(Words(), tokenizer(), 2, cache_dir=cache)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return prepare(tmp_path / "cache").folder


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder that is none of ours."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "precious").write_text("years of work")
    return folder


def rewrite(folder: Path, content: bytes, **layout: Any) -> None:
    """Put other bytes for the tokens, and a layout that says they are right."""
    (folder / "train.bin").write_bytes(content)
    path = folder / "store.json"
    stated = json.loads(path.read_text())
    sums = {**stated["sha256"], "train": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps({**stated, "sha256": sums, **layout}))


def of(dtype: str, size: int = 4, rows: int = 6) -> Spoil:
    return lambda folder: rewrite(folder, b"A" * (rows * size), dtype=dtype, rows={"train": rows, "held_out": 2})


def layout(**changes: Any) -> Spoil:
    return lambda folder: rewrite(folder, (folder / "train.bin").read_bytes(), **changes)


def pipe(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return spoil


def link(name: str, target: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).rename(folder.parent.parent / name)
        (folder / name).symlink_to(target.replace("OUTSIDE", str(folder.parent.parent)))

    return spoil


STORES: dict[str, Spoil] = {
    "objects": of("object", 16),
    "objects by letter": of("O", 16),
    "a structure of objects": layout(dtype=[["a", "O"]]),
    "signed": of("int16"),
    "wide": of("uint64", 16),
    "floats": of("float16"),
    "big-endian": of(">u2"),
    "a type in a list": layout(dtype=["uint16"]),
    "ids beyond the vocabulary": lambda folder: rewrite(folder, np.full(12, 60_000, np.uint16).tobytes()),
    "one id beyond it": lambda folder: rewrite(folder, np.array([1] * 11 + [4], np.uint16).tobytes()),
    "another context": layout(context_length=1, rows={"train": 12, "held_out": 4}),
    "context_length a float": layout(context_length=2.0),
    "context_length true": lambda folder: rewrite(folder, b"\1\0" * 6, context_length=True),
    "no rows": lambda folder: rewrite(folder, b"", rows={"train": 0, "held_out": 2}),
    "rows negative": layout(rows={"train": -6, "held_out": 2}),
    "rows huge": layout(rows={"train": 10**18, "held_out": 2}),
    "a huge layout": lambda folder: (folder / "store.json").write_text(" " * 10**6 + "{}"),
    "a deep layout": lambda folder: (folder / "store.json").write_text("[" * 60_000),
    "a layout that is a pipe": pipe("store.json"),
    "tokens that are a pipe": pipe("train.bin"),
    "tokens that are a device": link("train.bin", "/dev/zero"),
    "tokens that are elsewhere": link("train.bin", "OUTSIDE/train.bin"),
    "a layout that is elsewhere": link("store.json", "OUTSIDE/store.json"),
}


@pytest.mark.parametrize("spoil", STORES.values(), ids=STORES)
def test_a_bad_store_is_made_again(store: Path, spoil: Spoil) -> None:
    before = listing(store)
    spoil(store)
    outside = {path: path.read_bytes() for path in store.parent.parent.iterdir() if path.is_file()}
    with pytest.warns(UserWarning, match="is damaged; it is made anew"):
        made = prepare(store.parent)
    assert made.train.tolist() == TRAIN
    assert made.train.dtype == np.uint16
    assert listing(store) == before
    assert {path: path.read_bytes() for path in outside} == outside


def test_a_good_store_is_read_with_its_digests(store: Path) -> None:
    again = prepare(store.parent)
    assert again.digests == {
        split: hashlib.sha256((store / f"{split}.bin").read_bytes()).hexdigest() for split in ("train", "held_out")
    }
    assert np.array_equal(again.train, TRAIN)


def test_a_store_of_objects_does_not_end_the_interpreter(store: Path) -> None:
    """Before, the bytes of the file became pointers: a segmentation fault at the first look."""
    of("object", 16)(store)
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]; from pathlib import Path; from test_token_stores import prepare;"
        "print(prepare(Path(sys.argv[1])).train[0, 0])"
    )
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]
    done = subprocess.run(
        [sys.executable, "-c", program, str(store.parent), *folders], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.split()[-1]) == (0, "1"), done.stderr


# ------------------------------------------------------------------- removal


def as_link(store: Path, victim: Path) -> None:
    for path in store.iterdir():
        path.unlink()
    store.rmdir()
    store.symlink_to(victim)


def as_folder(store: Path, victim: Path) -> None:
    (store / "store.json").unlink()
    (store / "precious").write_text("years of work")


def with_folder(store: Path, victim: Path) -> None:
    (store / "train.bin").unlink()
    victim.rename(store / "train.bin")


def as_file(store: Path, victim: Path) -> None:
    for path in store.iterdir():
        path.unlink()
    store.rmdir()
    store.write_text("years of work")


@pytest.mark.parametrize("spoil", [as_link, as_folder, with_folder, as_file])
def test_what_is_no_store_is_not_replaced(store: Path, victim: Path, spoil: Callable[[Path, Path], None]) -> None:
    spoil(store, victim)
    before = listing(store.parent.parent)
    with pytest.raises(InputError, match=f"cache_dir: '.*{store.name}' is no token store, so it is not replaced"):
        prepare(store.parent)
    assert listing(store.parent.parent) == before


def left_link(store: Path, victim: Path) -> None:
    (store.parent / f".{store.name}.x").symlink_to(victim)


def left_folder(store: Path, victim: Path) -> None:
    victim.rename(store.parent / f".{store.name}.x")


def left_file(store: Path, victim: Path) -> None:
    (store.parent / f".{store.name}.x").write_text("years of work")


@pytest.mark.parametrize("spoil", [left_link, left_folder, left_file])
def test_what_only_has_a_leftovers_name_stays(store: Path, victim: Path, spoil: Callable[[Path, Path], None]) -> None:
    (store / "train.bin").unlink()
    spoil(store, victim)
    before = {name: state for name, state in listing(store.parent.parent).items() if store.name + "/" not in name}
    with pytest.warns(UserWarning, match="is damaged"):
        assert prepare(store.parent).train.tolist() == TRAIN
    assert before.items() <= listing(store.parent.parent).items()


def test_what_a_killed_process_left_is_removed(store: Path) -> None:
    (store / "train.bin").rename(store.parent / "train.bin")
    left = store.parent / f".{store.name}.abc"
    left.mkdir()
    (store.parent / "train.bin").rename(left / "train.bin")
    with pytest.warns(UserWarning, match="is damaged"):
        prepare(store.parent)
    assert [path.name for path in store.parent.iterdir()] == [store.name]


def test_a_lock_that_is_a_link_is_not_followed(store: Path, victim: Path) -> None:
    (store / "train.bin").unlink()
    (store.parent / f"{store.name}.lock").symlink_to(victim / "precious")
    before = listing(store.parent.parent)
    with pytest.raises(InputError, match="is no lock file; remove it"):
        prepare(store.parent)
    assert listing(store.parent.parent) == before


# ---------------------------------------------------------------- tokenizers


def test_ids_with_gaps_are_kept_as_they_are(tmp_path: Path) -> None:
    """Ids go beyond what 16 bits hold, though there are few of them."""
    gaps = tokenizer({"<eos>": 0, "a": 70_000, "b": 3, "c": 100_000})
    store = TokenStore.prepare(Words(), gaps, 2, cache_dir=tmp_path)
    assert store.train.dtype == np.uint32
    assert store.train[0].tolist() == [70_000, 3]
    assert TokenStore.prepare(Words(), gaps, 2, cache_dir=tmp_path).digests == store.digests


def test_a_tokenizer_that_panics_is_told_in_one_line(tmp_path: Path) -> None:
    """The table of its normalizer ends early, which is seen at the first text only."""
    content = json.loads(tokenizer().backend_tokenizer.to_str())
    content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAAA"}
    broken = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)), eos_token="<eos>")
    with pytest.raises(InputError, match=r"the text cannot be tokenised: its tokenizer\.json is broken: 'index out of"):
        TokenStore.prepare(Words(), broken, 2, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_that_multiplies_text_is_refused(tmp_path: Path) -> None:
    content = json.loads(tokenizer().backend_tokenizer.to_str())
    content["normalizer"] = {"type": "Replace", "pattern": {"String": "a"}, "content": " b" * 1000}
    bomb = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)), eos_token="<eos>")
    with pytest.raises(InputError, match=r"multiplies text: it makes [\d,]+ tokens of \d characters"):
        TokenStore.prepare(Words(), bomb, 2, cache_dir=tmp_path)


def test_tokens_that_are_not_those_of_the_training_are_told_of(run: Path, tmp_path: Path) -> None:
    """The checksums beside a store are its author's; run.json has those of the training."""
    shutil.copytree(run, tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        store = open_subject(str(tmp_path / "run")).tokens  # as it is, it is good
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["token_store"]["sha256"] == store.digests
    record["token_store"]["sha256"]["held_out"] = "0" * 64
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    with pytest.warns(UserWarning, match="is not that of its training any more"):
        assert open_subject(str(tmp_path / "run")).tokens.key == store.key

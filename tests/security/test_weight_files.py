"""Exports, foreign folders, sharded checkpoints and event files of a stranger neither hang nor fill the memory."""

import json
import os
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.utils.tensorboard import SummaryWriter

import vsae_lightning as vl
from export_kinds import D_IN, D_SAE, made
from hostile_checkpoints import content, rewritten, saved
from refusals import listing
from vsae_lightning.autoencoders.shards import INDEX_FILE, Sliced, write_rest, write_shard
from vsae_lightning.comparison.curves import read_curves
from vsae_lightning.files import remove_leftovers, replacing_tree, require_no_links
from vsae_lightning.interop import dictionary_learning, saelens
from vsae_lightning.interop.inference import deployed
from vsae_lightning.linked_folders import sweep
from vsae_lightning.origin import Origin

NOTHING = Origin({}, {}, {}, {})
CONFIG: dict[str, Any] = {"data": {"init_args": {"batch_size": 10}}, "trainer": {}}


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """A reader that waits for a pipe is interrupted."""

    def interrupt(number: int, frame: object) -> None:
        raise AssertionError("hangs")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def sparsify_folder(folder: Path) -> None:
    encoder = {"encoder.weight": torch.randn(D_SAE, D_IN), "encoder.bias": torch.zeros(D_SAE)}
    save_file({**encoder, "W_dec": torch.randn(D_SAE, D_IN), "b_dec": torch.zeros(D_IN)}, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"d_in": D_IN, "k": 3, "activation": "topk"}))


def sharded_folder(folder: Path) -> None:
    """As two ranks write one."""
    rest = content()
    place = ("state_dict", "autoencoder.W_dec")
    whole = rest["state_dict"][place[1]]
    rest["state_dict"][place[1]] = None
    tensor = Sliced(place, tuple(whole.shape), 0)
    records = [write_shard(folder, rank, 2, {tensor: part}) for rank, part in enumerate(whole.chunk(2))]
    write_rest(folder, rest, records, [tensor])


FOLDERS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "own": (
        lambda folder: vl.save(vl.SparseAutoencoder(4, 8, vl.ReLU()), folder),
        ("autoencoder.json", "autoencoder.safetensors"),
    ),
    "saelens": (
        lambda folder: saelens.write(folder, deployed(made("topk")), NOTHING),
        ("cfg.json", "sae_weights.safetensors"),
    ),
    "dictionary_learning": (
        lambda folder: dictionary_learning.write(folder, deployed(made("topk")), NOTHING),
        ("config.json", "ae.pt"),
    ),
    "sparsify": (sparsify_folder, ("cfg.json", "sae.safetensors")),
    "sharded": (sharded_folder, ("shards.json", "rest.ckpt", "shard-00-of-02.safetensors")),
}
PLACES = [(kind, name) for kind, (_, names) in FOLDERS.items() for name in names]


def pipe(path: Path) -> None:
    os.mkfifo(path)


INSTEAD: dict[str, Callable[[Path], Any]] = {
    "pipe": pipe,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
    "nothing": lambda path: None,
    "link to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("instead", INSTEAD)
@pytest.mark.parametrize(("kind", "name"), PLACES)
def test_what_is_no_file_is_refused_at_once(kind: str, name: str, instead: str, tmp_path: Path) -> None:
    FOLDERS[kind][0](tmp_path)
    assert isinstance(vl.load(tmp_path), vl.SparseAutoencoder)
    (tmp_path / name).unlink()
    INSTEAD[instead](tmp_path / name)
    with pytest.raises(vl.InputError):
        vl.load(tmp_path)


@pytest.mark.parametrize("how", [8, 12])  # deflated, bzip2
def test_a_compressed_state_of_others_is_refused(how: int, tmp_path: Path) -> None:
    FOLDERS["dictionary_learning"][0](tmp_path)
    path = tmp_path / "ae.pt"
    path.write_bytes(rewritten(path.read_bytes(), how=how))
    with pytest.raises(vl.InputError, match=r"ae\.pt: not a readable state dict: an entry is compressed"):
        vl.load(tmp_path)


def test_weights_in_eight_bits_are_refused(tmp_path: Path) -> None:
    FOLDERS["sparsify"][0](tmp_path)
    weights = {"encoder.weight": torch.randn(D_SAE, D_IN), "encoder.bias": torch.zeros(D_SAE)}
    weights |= {"W_dec": torch.randn(D_SAE, D_IN).to(torch.float8_e4m3fn), "b_dec": torch.zeros(D_IN)}
    save_file(weights, tmp_path / "sae.safetensors")
    with pytest.raises(vl.InputError, match=r"W_dec holds torch\.float8_e4m3fn, but must hold torch\.float32"):
        vl.load(tmp_path)


@pytest.mark.parametrize("shape", [(0, 2**40), (2**40, 0), (0, 0)])
def test_an_empty_matrix_of_any_width_is_refused(shape: tuple[int, int], tmp_path: Path) -> None:
    FOLDERS["sparsify"][0](tmp_path)
    save_file({"encoder.weight": torch.empty(shape)}, tmp_path / "sae.safetensors")
    with pytest.raises(vl.InputError, match=r"there is no matrix 'encoder\.weight' in it"):
        vl.load(tmp_path)


INDEXES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a trillion ranks": lambda index: index.update(ranks=10**12),
    "ranks a text": lambda index: index.update(ranks="2"),
    "huge shape": lambda index: index["tensors"][0].update(shape=[2 * 10**12, 8]),
    "shape of texts": lambda index: index["tensors"][0].update(shape=[24, "8"]),
    "dimension from behind": lambda index: index["tensors"][0].update(dim=-2),
    "one tensor at many places": lambda index: index["tensors"].append(
        {**index["tensors"][0], "place": ["state_dict/autoencoder.W_dec"]}
    ),
    "deep": lambda index: index.update(deep=0),
}


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_of_more_than_is_stored_is_refused(name: str, tmp_path: Path) -> None:
    sharded_folder(tmp_path)
    index = json.loads((tmp_path / INDEX_FILE).read_text())
    INDEXES[name](index)
    text = json.dumps(index).replace('"deep": 0', f'"deep": {"[" * 10**5}{"]" * 10**5}')
    (tmp_path / INDEX_FILE).write_text(text)
    with pytest.raises(vl.InputError, match=r"shards\.json"):
        vl.load(tmp_path)


def events(folder: Path) -> Path:
    with SummaryWriter(str(folder)) as writer:
        for step in range(3):
            writer.add_scalar("train/explained_variance", 0.5, step)
    (path,) = folder.glob("events.out.tfevents.*")
    return path


def test_curves_are_read(tmp_path: Path) -> None:
    events(tmp_path)
    assert read_curves(tmp_path, CONFIG) == {"train/explained_variance": {10: 0.5, 20: 0.5, 30: 0.5}}
    assert read_curves(tmp_path / "nothing", CONFIG) == {}


def without_curves(folder: Path) -> None:
    with pytest.warns(UserWarning, match="event files are not readable, so it has no curves") as warned:
        assert read_curves(folder, CONFIG) == {}
    assert all(str(one.message).isprintable() for one in warned)


@pytest.mark.parametrize("instead", ["pipe", "device", "folder", "link to itself"])
@pytest.mark.parametrize("name", ["events.out.tfevents.2", "my.tfevents"])
def test_events_that_are_no_file_give_no_curves(name: str, instead: str, tmp_path: Path) -> None:
    events(tmp_path)
    INSTEAD[instead](tmp_path / name)
    without_curves(tmp_path)


def test_events_too_large_give_no_curves(tmp_path: Path) -> None:
    with events(tmp_path).open("r+b") as file:
        file.truncate(10**12)  # on disk it takes nothing
    without_curves(tmp_path)


def test_the_options_of_curves_are_numbers(tmp_path: Path) -> None:
    events(tmp_path)
    for config in (
        {"data": {"init_args": {"batch_size": 10**9}}, "trainer": {"accumulate_grad_batches": "x"}},
        {"data": {"init_args": {"batch_size": "x"}}, "trainer": {}},
    ):
        assert read_curves(tmp_path, config) == {}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=st.binary(max_size=60), length=st.none() | st.integers(0, 2**64 - 1))
@pytest.mark.filterwarnings("ignore:.*event files are not readable")
def test_any_record_gives_curves_or_none(record: bytes, length: int | None, tmp_path: Path) -> None:
    """A file of the length that it claims, with right checksums."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    header = struct.pack("<Q", len(record) if length is None else length)
    parts = [header, struct.pack("<I", masked_crc32c(header)), record, struct.pack("<I", masked_crc32c(record))]
    (tmp_path / "events.out.tfevents.1").write_bytes(b"".join(parts))
    assert isinstance(read_curves(tmp_path, CONFIG), dict)


def test_leftovers_are_those_of_one_name_alone(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_text("mine")
    mine = [".a.backup", ".a.txt", ".a.abcdefgH", ".ab.abcdefgh", ".b.abcdefgh", "a.abcdefgh", ".a.abcdefghi"]
    for name in (*mine, ".a.abcdefgh", ".a.________"):
        (tmp_path / name).write_text("")
    (tmp_path / ".a.linked00").symlink_to(tmp_path / "victim")
    (tmp_path / ".a.folder00").mkdir()
    remove_leftovers(tmp_path / "a")
    assert {path.name for path in tmp_path.iterdir()} == {*mine, "victim"}
    assert (tmp_path / "victim" / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["*", "?", "[a-z]", "**"])
def test_a_name_is_no_pattern(name: str, tmp_path: Path) -> None:
    (tmp_path / ".a.abcdefgh").write_text("mine")
    (tmp_path / f".{name}.abcdefgh").write_text("")
    remove_leftovers(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [".a.abcdefgh"]
    remove_leftovers(tmp_path / "not there" / name)


def test_a_tree_replaces_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_text("mine")
    (tmp_path / "report").symlink_to(tmp_path / "victim")
    with replacing_tree(tmp_path / "report") as temporary:
        (temporary / "page").write_text("new")
    assert (tmp_path / "victim" / "file").read_text() == "mine"
    assert listing(tmp_path).keys() == {"victim", "victim/file", "report", "report/page"}
    assert not (tmp_path / "report").is_symlink()


def test_a_sweep_removes_own_folders_alone(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_text("mine")
    (tmp_path / "sharded-1").symlink_to(tmp_path / "victim")
    (tmp_path / "sharded-2").write_text("a file")
    (tmp_path / "sharded-3").mkdir()
    (tmp_path / "sharded-4").mkdir()
    (tmp_path / "last.ckpt").symlink_to("sharded-4")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / ".sharded-writing").symlink_to(tmp_path / "victim")
    sweep(tmp_path)
    kept = {"victim", "victim/file", "sharded-1", "sharded-2", "sharded-4", "last.ckpt", "loop"}
    assert listing(tmp_path).keys() == kept


@pytest.mark.parametrize("place", ["../x", "a/../../x", "link/x", "a/link", "/etc"])
def test_a_path_out_of_a_folder_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path.parent)
    (tmp_path / "a" / "link").symlink_to("/nowhere")
    with pytest.raises(vl.InputError, match=r"a link, which could lead|not below"):
        require_no_links(tmp_path, tmp_path / place)
    for good in ("a", "a/b/c", "new"):
        require_no_links(tmp_path, tmp_path / good)


def test_a_shard_of_a_good_checkpoint_is_read(tmp_path: Path) -> None:
    sharded_folder(tmp_path)
    (tmp_path / "plain.ckpt").write_bytes(saved(content()))
    assert torch.equal(vl.load(tmp_path).W_dec, vl.load(tmp_path / "plain.ckpt").W_dec)

"""Sharded checkpoints on disk: what belongs together is read, and nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import vsae_lightning as vl
from vsae_lightning.autoencoders.shards import INDEX_FILE, read_part, read_whole
from vsae_lightning.autoencoders.storage import describe_checkpoint

SHARD = "shard-00-of-02.safetensors"


@pytest.fixture
def folder(sharded: Path, tmp_path: Path) -> Path:
    """A copy of a whole sharded checkpoint of two ranks."""
    return Path(shutil.copytree((sharded / "learned" / "whole.ckpt").resolve(), tmp_path / "checkpoint"))


def edited(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    index = json.loads((folder / INDEX_FILE).read_text())
    edit(index)
    (folder / INDEX_FILE).write_text(json.dumps(index))


def test_any_number_of_ranks_reads_its_slices(folder: Path) -> None:
    whole = read_whole(folder)
    for ranks in (1, 2, 3, 4, 8):
        parts = [read_part(folder, rank, ranks) for rank in range(ranks)]
        for name, dim in (("W_enc", 1), ("W_dec", 0), ("W_var", 1), ("b_var", 0)):
            slices = [part["state_dict"][f"autoencoder.{name}"] for part in parts]
            assert torch.equal(torch.cat(slices, dim), whole["state_dict"][f"autoencoder.{name}"])
            assert slices[0].shape[dim] == 96 // ranks
        moments = [part["optimizer_states"][0]["state"][0]["exp_avg"] for part in parts]
        assert torch.equal(torch.cat(moments, 1), whole["optimizer_states"][0]["state"][0]["exp_avg"])
        biases = [part["state_dict"]["autoencoder.b_dec"] for part in parts]
        assert all(torch.equal(bias, whole["state_dict"]["autoencoder.b_dec"]) for bias in biases)


def test_files_hold_slices_alone(folder: Path) -> None:
    """Weights, and two moments of each, of half of the latents."""
    numbers = 3 * 48 * (3 * 16 + 2)
    assert numbers * 4 < (folder / SHARD).stat().st_size < numbers * 4 + 4096
    described = describe_checkpoint(folder)
    assert described["state_dict"]["autoencoder.W_enc"] is None
    assert described["hyper_parameters"]["d_sae"] == 96


@pytest.mark.parametrize("name", [SHARD, "shard-01-of-02.safetensors", "rest.ckpt", INDEX_FILE])
def test_a_torn_file_is_refused(name: str, folder: Path) -> None:
    path = folder / name
    content = path.read_bytes()
    flipped = b"[]" if name == INDEX_FILE else content[:-1] + bytes([content[-1] ^ 1])
    changes: list[Callable[[], object]] = [
        lambda: path.write_bytes(content[:-7]),
        lambda: path.write_bytes(flipped),
        lambda: path.write_bytes(b""),
        lambda: path.unlink(),
    ]
    for change in changes:
        change()
        with pytest.raises(vl.InputError, match=r"torn|not a readable|holds neither"):
            vl.load(folder)


def test_a_file_that_is_a_link_is_refused(folder: Path) -> None:
    (folder / SHARD).rename(folder.parent / SHARD)
    (folder / SHARD).symlink_to(Path("..") / SHARD)
    with pytest.raises(vl.InputError, match="no such file"):
        vl.load(folder)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "other.safetensors", "..", ""])
def test_names_that_no_checkpoint_has_are_refused(name: str, folder: Path) -> None:
    edited(folder, lambda index: index["files"].update({name: index["files"].pop(SHARD)}))
    with pytest.raises(vl.InputError, match="should not name, or fails to name"):
        vl.load(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda index: index.update(format=2), "format 2"),
        (lambda index: index.update(ranks=0), "not readable|should not name"),
        (lambda index: index.update(ranks="2"), "not readable"),
        (lambda index: index.update(ranks=3), "should not name"),
        (lambda index: index["tensors"].append(index["tensors"][0]), "a tensor twice"),
        (lambda index: index["tensors"][0].update(dim=7), "not readable"),
        (lambda index: index["tensors"][0].update(shape=[16, 95]), "not equal"),
        (lambda index: index["tensors"][0].update(shape=[16, 192]), "has the shape"),
        (lambda index: index["tensors"][0].update(place=["state_dict", "input_mean"]), "no|not readable"),
        (lambda index: index["tensors"][0].update(place=[]), "no"),
        (lambda index: index.pop("tensors"), "not readable"),
        (lambda index: index["files"][SHARD].update(more=1), "not readable"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(
    edit: Callable[[dict[str, Any]], Any], message: str, folder: Path
) -> None:
    edited(folder, edit)
    with pytest.raises(vl.InputError, match=message):
        vl.load(folder)

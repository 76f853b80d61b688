"""Bad exported folders: torn, foreign or tampered with."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import vsae_lightning as vl

CONFIG, WEIGHTS = "autoencoder.json", "autoencoder.safetensors"
Spoil = Callable[[Path], Any]


def write(name: str, content: str | bytes) -> Spoil:
    encoded = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(encoded)


def argument(name: str, value: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / CONFIG).read_text())
        content["init_args"][name] = value
        (folder / CONFIG).write_text(json.dumps(content))

    return spoil


def class_name(value: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps({**content, "class_name": value}))

    return spoil


def tensors(**changes: torch.Tensor | None) -> Spoil:
    def spoil(folder: Path) -> None:
        weights = {**load_file(folder / WEIGHTS), **changes}
        save_file({name: tensor for name, tensor in weights.items() if tensor is not None}, folder / WEIGHTS)

    return spoil


def cut(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-10])


def lengthened(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes() + bytes(10))


def header(length: int | None = None, **shape: list[int]) -> Spoil:
    """A header that lies of its own length, or of the shape of a tensor."""

    def spoil(folder: Path) -> None:
        content = (folder / WEIGHTS).read_bytes()
        end = 8 + struct.unpack("<Q", content[:8])[0]
        described = json.loads(content[8:end])
        for name, lie in shape.items():
            described[name]["shape"] = lie
        encoded = json.dumps(described).encode()
        size = len(encoded) if length is None else length
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", size) + encoded + content[end:])

    return spoil


UNREADABLE, UNDESCRIBED = "not a readable exported autoencoder", "not the description of an autoencoder"
FOLDERS: dict[str, tuple[Spoil, str]] = {
    "config empty": (write(CONFIG, ""), UNREADABLE),
    "config broken": (write(CONFIG, '{"class_name": '), UNREADABLE),
    "config binary": (write(CONFIG, bytes(range(256))), UNREADABLE),
    "config of brackets": (write(CONFIG, "[" * 200_000), UNREADABLE),
    "config huge": (write(CONFIG, " " * 2_000_000), "autoencoder.json: has more than 1,000,000 bytes"),
    "config a list": (write(CONFIG, "[]"), UNDESCRIBED),
    "config a number": (write(CONFIG, "NaN"), UNDESCRIBED),
    "config of nothing": (write(CONFIG, "{}"), UNDESCRIBED),
    "class unknown": (class_name("TopKAutoencoder"), "unknown autoencoder 'TopKAutoencoder'; known: SparseAutoencoder"),
    "class a path": (class_name("vsae_lightning.SAE"), "unknown autoencoder 'vsae_lightning.SAE'"),
    "class a number": (class_name(5), "unknown autoencoder 5"),
    "sparsifier of os": (argument("sparsifier", {"class_name": "os.system", "init_args": {}}), "unknown sparsifier"),
    "sparsifier a text": (argument("sparsifier", "TopK"), UNDESCRIBED),
    "sparsifier in itself": (
        argument("sparsifier", {"class_name": "Matryoshka", "init_args": {"groups": [8], "sparsifier": {}}}),
        UNDESCRIBED,
    ),
    "extra argument": (argument("device", "cuda"), UNDESCRIBED),
    "d_sae huge": (argument("d_sae", 10**12), "d_sae, d_in are [1000000000000, 4], but W_dec is [8, 4]"),
    "d_sae a truth": (argument("d_sae", True), "but W_dec is [8, 4]"),
    "d_sae nan": (argument("d_sae", float("nan")), "but W_dec is [8, 4]"),
    "decoder unknown": (argument("decoder", "unitary"), UNDESCRIBED),
    "decoder_norm negative": (argument("decoder_norm", -1.0), "decoder_norm is -1.0"),
    "weights empty": (write(WEIGHTS, b""), UNREADABLE),
    "weights cut": (cut, UNREADABLE),
    "weights lengthened": (lengthened, UNREADABLE),
    "weights a pickle": (write(WEIGHTS, b"\x80\x04\x95"), UNREADABLE),
    "header longer than the file": (header(length=2**40), UNREADABLE),
    "header shorter than it is": (header(length=20), UNREADABLE),
    "header of a huge tensor": (header(W_dec=[10**9, 10**9]), UNREADABLE),
    "header of a negative tensor": (header(W_dec=[-8, -4]), UNREADABLE),
    "tensor of integers": (tensors(b_enc=torch.zeros(8, dtype=torch.int32)), "b_enc holds torch.int32"),
    "tensor of nan": (tensors(b_enc=torch.full((8,), float("nan"))), "b_enc holds nan"),
    "tensor too much": (tensors(extra=torch.zeros(3)), "they have, beyond it, extra"),
    "tensor missing": (tensors(W_enc=None), "they lack W_enc"),
    "decoder missing": (tensors(W_dec=None), "but W_dec is None"),
    "tensor transposed": (tensors(W_enc=torch.zeros(8, 4)), "W_enc is [8, 4], but must be [4, 8]"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "autoencoder.safetensors: cannot be read"),
    "no config": (lambda folder: (folder / CONFIG).unlink(), "holds neither checkpoints/last.ckpt nor"),
}


@pytest.mark.parametrize(("spoil", "expected"), FOLDERS.values(), ids=FOLDERS)
def test_a_bad_folder_is_refused(spoil: Spoil, expected: str, desk: Path, load_refusal: Callable[[Path], str]) -> None:
    vl.save(vl.SparseAutoencoder(4, 8, vl.ReLU()), desk / "exported")
    spoil(desk / "exported")
    message = load_refusal(desk / "exported")
    assert expected in message
    assert "DESK/exported" in message

"""Checkpoints as a stranger could make them: far larger than their files, or of other kinds than ours."""

import copy
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import vsae_lightning as vl

Content = dict[str, Any]
D_IN, D_SAE = 8, 24
W_DEC, B_ENC = "autoencoder.W_dec", "autoencoder.b_enc"


def content(d_in: int = D_IN, d_sae: int = D_SAE) -> Content:
    """A small good one, of which `vl.load` needs no more."""
    autoencoder = vl.SparseAutoencoder(d_in, d_sae, vl.TopK(3), seed=1)
    state = {f"autoencoder.{name}": value for name, value in autoencoder.state_dict().items()}
    return {
        "state_dict": state | {"input_mean": torch.ones(d_in), "input_scale": torch.tensor(2.0)},
        "hyper_parameters": {"_class_path": "vsae_lightning.SAE", "d_in": d_in, "d_sae": d_sae},
        "autoencoder": autoencoder.config(),
        "global_step": 5,
    }


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def rewritten(file: bytes, change: Callable[[str, bytes], bytes] = lambda name, data: data, how: int = 0) -> bytes:
    """The same archive with other entries, and checksums that are right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as old, zipfile.ZipFile(buffer, "w", how) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))
    return buffer.getvalue()


def with_entries(*entries: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO(saved(content()))
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, data in entries:
            archive.NameToInfo.clear()  # which would warn of a second entry of one name
            entry = zipfile.ZipInfo()
            entry.filename = entry.orig_filename = name  # as it is, with what zipfile would cut off
            archive.writestr(entry, data)
    return buffer.getvalue()


def overlapping(count: int) -> bytes:
    """Every name beyond the first is for the same bytes."""
    buffer = io.BytesIO(saved(content()))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("archive/data/100", bytes(10**6))
        for number in range(count):
            again = copy.copy(archive.filelist[-1])
            again.filename = again.orig_filename = f"archive/data/{200 + number}"
            archive.filelist.append(again)
    return buffer.getvalue()


def claiming(numbers: int) -> bytes:
    """A storage that says of itself that it has so many numbers, where 4 are stored."""
    claim = b"J" + struct.pack("<i", numbers)

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return data
        return data.replace(b"K\x04tq", claim + b"tq", 1).replace(b"K\x04\x85", claim + b"\x85", 1)

    return rewritten(saved({"a": torch.zeros(4)}), change)


def changed(value: Any, *place: str) -> bytes:
    made = content()
    target: Any = made
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    return saved(made)


def with_state(name: str, value: Any) -> bytes:
    return changed(value, "state_dict", name)


def of_one_number(d_in: int, d_sae: int) -> bytes:
    """A dictionary of so many numbers, all the same one."""
    made = content()
    for described in (made["hyper_parameters"], made["autoencoder"]["init_args"]):
        described |= {"d_in": d_in, "d_sae": d_sae}
    shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_enc": (d_sae,), "b_dec": (d_in,)}
    made["state_dict"] |= {f"autoencoder.{name}": torch.ones(()).expand(shape) for name, shape in shapes.items()}
    made["state_dict"]["input_mean"] = torch.ones(()).expand(d_in)
    return saved(made)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def doubled(times: int) -> Any:
    value: Any = [1, 1]
    for _ in range(times):
        value = [value, value]
    return value


def circular() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


class Called:
    """Unpickled, what a function gives for an argument."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def kinds() -> dict[str, bytes]:
    """Tensors and values of other kinds than a checkpoint of ours has, which torch itself would read."""
    plain = torch.zeros(D_SAE)
    nested_tensor = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    return {
        "sparse": with_state(B_ENC, plain.to_sparse()),
        "sparse rows": with_state(W_DEC, torch.eye(4).to_sparse_csr()),
        "complex": with_state(B_ENC, plain.to(torch.complex64)),
        "quantized": with_state(B_ENC, torch.quantize_per_tensor(plain, 0.1, 0, torch.qint8)),
        "nested tensor": with_state(B_ENC, nested_tensor),
        "meta": with_state(B_ENC, plain.to("meta")),
        "eight bits": with_state(B_ENC, plain.to(torch.float8_e4m3fn)),
        "uint32": with_state(B_ENC, plain.to(torch.uint32)),
        "bytes to fill": changed(Called(bytearray, 10**9), "global_step"),
        "complex number": changed(1j, "global_step"),
        "a set": changed({1}, "global_step"),
        "key a number": with_state(1, plain),  # type: ignore[arg-type]
        "key nothing": changed({None: 1}, "hyper_parameters", "k"),
        "key a pair": changed({(1, 2): 1}, "hyper_parameters", "k"),
        "option a number": changed(1, "hyper_parameters", 7),  # type: ignore[arg-type]
        "number of 10,000 bits": changed(1 << 10_000, "global_step"),
        "deep": changed(nested(300), "global_step"),
        "circular": changed(circular(), "global_step"),
        "doubled 40 times": changed(doubled(40), "global_step"),
        "a million members": changed(dict.fromkeys(map(str, range(10**6))), "members"),
        "text of 9 MB": changed("x" * 9_000_000, "global_step"),
    }


def archives() -> dict[str, bytes]:
    """Archives that torch.save does not write."""
    zeros = saved(content() | {"optimizer_states": [torch.zeros(2 * 10**7)]})
    return {
        "deflated": rewritten(zeros, how=zipfile.ZIP_DEFLATED),
        "bzip2": rewritten(zeros, how=zipfile.ZIP_BZIP2),
        "overlapping": overlapping(500),
        "twice": with_entries(("archive/data/0", bytes(96))),
        "twice but for case": with_entries(("archive/data.PKL", b"x")),
        "two roots": with_entries(("other/data/90", b"x")),
        "constants": with_entries(("archive/constants.pkl", b"x")),
        "climbing": with_entries(("archive/../../evil", b"x")),
        "absolute": with_entries(("/data/91", b"x")),
        "cut by a zero": with_entries(("archive/data/9\x00/data.pkl", b"x")),
        "a folder": with_entries(("archive/data/", b"")),
        "stride 0": of_one_number(8192, 100_000),
        "stride 0 in the state alone": with_state("extra", torch.ones(()).expand(10**12)),
        "one storage many times": changed([torch.ones(10**6)] * 100, "optimizer_states"),
        "claims more": claiming(10**8),
    }


def write_all(folder: Path) -> None:
    (folder / "good.ckpt").write_bytes(saved(content()))
    for name, file in (archives() | kinds()).items():
        (folder / f"{name}.ckpt").write_bytes(file)

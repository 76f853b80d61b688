"""Bad checkpoints: torn, foreign, tampered with, or with code in them; from Python and from the command line."""

import io
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule

import vsae_lightning as vl
from code_in_files import MARKER, Exploit, write_module
from refusals import Refusal

Checkpoint = dict[str, Any]
LoadRefusal = Callable[[Path], str]


def saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def archive(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return buffer.getvalue()


def with_inner_pickle(content: bytes) -> bytes:
    """A good checkpoint with a second, evil pickle beside its own, under every name that a reader may try."""
    buffer = io.BytesIO(content)
    evil = pickle.dumps(Exploit())
    with zipfile.ZipFile(buffer, "a") as file:
        root = file.namelist()[0].split("/")[0]
        for name in (f"{root}/constants.pkl", f"{root}/code/__init__.py", "data.pkl", "../../evil"):
            file.writestr(name, evil)
    return buffer.getvalue()


FILES: dict[str, bytes] = {
    "empty": b"",
    "text": b"lightning_logs/version_0",
    "random bytes": bytes(i * 37 % 256 for i in range(5000)),
    "start of a zip": b"PK\x03\x04 torn",
    "zip without entries": archive(),
    "zip of another program": archive(**{"word/document.xml": b"<xml/>"}),
    "zip that climbs out": archive(**{"../../evil": b"x", "archive/data.pkl": pickle.dumps({})}),
    "pickle with code": pickle.dumps({"state_dict": Exploit()}),
    "torch file with code": saved({"autoencoder": Exploit(), "state_dict": {}, "hyper_parameters": {}}),
    "old torch file with code": saved({"state_dict": Exploit()}, _use_new_zipfile_serialization=False),
    "zip with code as its pickle": archive(**{"archive/data.pkl": pickle.dumps(Exploit()), "archive/version": b"3"}),
    "a whole module": saved(torch.nn.Linear(2, 2)),
    "torch script": b"",  # written below
}


def torch_script() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_checkpoint_is_refused(name: str, desk: Path, load_refusal: LoadRefusal) -> None:
    content = torch_script() if name == "torch script" else FILES[name]
    (desk / "bad.ckpt").write_bytes(content)
    assert "bad.ckpt: not a readable checkpoint" in load_refusal(desk / "bad.ckpt")
    assert not list(desk.parent.rglob(MARKER))
    assert not list(desk.parent.parent.glob("evil"))


@pytest.mark.parametrize("part", [0.02, 0.5, 0.999])
def test_a_torn_checkpoint_is_refused(part: float, run: Path, desk: Path, load_refusal: LoadRefusal) -> None:
    content = (run / "checkpoints" / "last.ckpt").read_bytes()
    (desk / "torn.ckpt").write_bytes(content[: int(len(content) * part)])
    assert "torn.ckpt: not a readable checkpoint" in load_refusal(desk / "torn.ckpt")


def test_a_pickle_that_nobody_asks_for_is_not_read(run: Path, desk: Path) -> None:
    (desk / "two.ckpt").write_bytes(with_inner_pickle((run / "checkpoints" / "last.ckpt").read_bytes()))
    with suppress(vl.InputError):  # a reader may take it, or leave it; it must not run it
        vl.load(desk / "two.ckpt")
    assert {path.name for path in desk.iterdir()} == {"two.ckpt"}


PLACES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "not there": (lambda path: None, "no such file or folder"),
    "an empty folder": (lambda path: path.mkdir(), "holds neither checkpoints/last.ckpt nor autoencoder.json"),
    "a link to itself": (lambda path: path.symlink_to(path), "no such file or folder"),
    "a folder named last.ckpt": (
        lambda path: (path / "checkpoints" / "last.ckpt").mkdir(parents=True),
        "holds neither checkpoints/last.ckpt",
    ),
}


@pytest.mark.parametrize(("make", "expected"), PLACES.values(), ids=PLACES)
def test_what_is_no_file_is_refused(
    make: Callable[[Path], Any], expected: str, desk: Path, load_refusal: LoadRefusal
) -> None:
    make(desk / "bad.ckpt")
    assert expected in load_refusal(desk / "bad.ckpt")


def put(value: Any, *path: str) -> Callable[[Checkpoint], None]:
    def tamper(checkpoint: Checkpoint) -> None:
        place: Any = checkpoint
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return tamper


def drop(*path: str) -> Callable[[Checkpoint], None]:
    def tamper(checkpoint: Checkpoint) -> None:
        place: Any = checkpoint
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return tamper


W_DEC, B_ENC, ARGS = "autoencoder.W_dec", "autoencoder.b_enc", ("autoencoder", "init_args")
FOREIGN, UNDESCRIBED, UNFIT = "not one of vsae_lightning", "not the description of an autoencoder", "do not fit"
TAMPERED: dict[str, tuple[Callable[[Checkpoint], None], str]] = {
    "no state": (drop("state_dict"), FOREIGN),
    "state a list": (put([1], "state_dict"), FOREIGN),
    "state of numbers": (put({"autoencoder.W_dec": 1}, "state_dict"), FOREIGN),
    "no hyper-parameters": (drop("hyper_parameters"), FOREIGN),
    "hyper-parameters without a class": (drop("hyper_parameters", "_class_path"), FOREIGN),
    "no description": (drop("autoencoder"), FOREIGN),
    "description a text": (put("SparseAutoencoder", "autoencoder"), FOREIGN),
    "description of nothing": (put({}, "autoencoder"), UNDESCRIBED),
    "autoencoder unknown": (put("os.system", "autoencoder", "class_name"), "unknown autoencoder 'os.system'; known"),
    "autoencoder a list": (put(["VAE"], "autoencoder", "class_name"), UNDESCRIBED),
    "arguments a list": (put([1], *ARGS), UNDESCRIBED),
    "sparsifier os.system": (put("os.system", *ARGS, "sparsifier", "class_name"), "unknown sparsifier 'os.system'"),
    "sparsifier a number": (put(7, *ARGS, "sparsifier"), UNDESCRIBED),
    "d_sae huge": (put(10**12, *ARGS, "d_sae"), "d_sae, d_in are [1000000000000, 32], but W_dec is [96, 32]"),
    "d_sae negative": (put(-96, *ARGS, "d_sae"), "d_sae, d_in are [-96, 32], but W_dec is [96, 32]"),
    "d_sae a text": (put("96", *ARGS, "d_sae"), "d_sae, d_in are ['96', 32], but W_dec is [96, 32]"),
    "d_in of another": (put(64, *ARGS, "d_in"), "d_sae, d_in are [96, 64], but W_dec is [96, 32]"),
    "d_sae missing": (drop(*ARGS, "d_sae"), UNDESCRIBED),
    "k huge": (put(10**12, *ARGS, "sparsifier", "init_args", "k"), "k is 1000000000000, more than the 96 latents"),
    "k a text": (put("all", *ARGS, "sparsifier", "init_args", "k"), UNDESCRIBED),
    "seed huge": (put(10**40, *ARGS, "seed"), UNDESCRIBED),
    "argument too many": (put("echo", *ARGS, "command"), UNDESCRIBED),
    "tensor missing": (drop("state_dict", B_ENC), "they lack b_enc"),
    "all tensors missing": (put({}, "state_dict"), "but W_dec is None"),
    "tensor too much": (put(torch.zeros(3), "state_dict", "autoencoder.extra"), "they have, beyond it, extra"),
    "tensor of another shape": (put(torch.zeros(95), "state_dict", B_ENC), "b_enc is [95], but must be [96]"),
    "tensor a scalar": (put(torch.zeros(()), "state_dict", W_DEC), "but W_dec is []"),
    "tensor of integers": (put(torch.zeros(96, dtype=torch.int64), "state_dict", B_ENC), "b_enc holds torch.int64"),
    "tensor of nan": (put(torch.full((96,), float("nan")), "state_dict", B_ENC), "b_enc holds nan"),
    "no scaling": (drop("state_dict", "input_scale"), "its input_mean and input_scale are not those of a run"),
    "scaling 0": (put(torch.zeros(()), "state_dict", "input_scale"), "its input_mean and input_scale are not"),
    "scaling of another width": (put(torch.zeros(31), "state_dict", "input_mean"), "its input_mean and input_scale"),
    "members of nothing": (put({"a": 7}, "members"), "is an ensemble; give one of its members: a"),
}


def tampered(run: Path, desk: Path, tamper: Callable[[Checkpoint], None]) -> Path:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    tamper(checkpoint)
    torch.save(checkpoint, desk / "bad.ckpt")
    return desk / "bad.ckpt"


@pytest.mark.parametrize(("tamper", "expected"), TAMPERED.values(), ids=TAMPERED)
def test_a_tampered_checkpoint_is_refused(
    tamper: Callable[[Checkpoint], None], expected: str, run: Path, desk: Path, load_refusal: LoadRefusal
) -> None:
    message = load_refusal(tampered(run, desk, tamper))
    assert expected in message
    assert "bad.ckpt" in message


RUNS: dict[str, tuple[Callable[[Checkpoint], None], str]] = {
    "no loops": (drop("loops"), "a checkpoint without 'loops'; it is not whole"),
    "no step": (drop("global_step"), "a checkpoint without 'global_step'"),
    "step a text": (put("12", "global_step"), "a checkpoint without 'global_step'"),
    "loops of nothing": (put({}, "loops"), "a checkpoint whose state is not one of Lightning"),
    "callbacks a list": (put([7], "callbacks"), "a checkpoint without 'callbacks'"),
    "state of a callback a number": (put(7, "callbacks", "Sparsity"), "a checkpoint whose state is not one of"),
    "version of nothing": (drop("pytorch-lightning_version"), "a checkpoint without 'pytorch-lightning_version'"),
    "version a word": (put("newest", "pytorch-lightning_version"), "a checkpoint whose state is not one of Lightning"),
    "optimizers numbers": (put([7], "optimizer_states"), "a checkpoint whose state is not one of Lightning"),
    "tensor missing": (drop("state_dict", B_ENC), "they lack autoencoder.b_enc"),
    "tensor too much": (put(torch.zeros(3), "state_dict", "extra"), "they have, beyond it, extra"),
    "tensor of another shape": (put(torch.zeros(95), "state_dict", B_ENC), "autoencoder.b_enc is [95], but must be"),
    "tensor of nan": (put(torch.full((96,), float("nan")), "state_dict", B_ENC), "autoencoder.b_enc holds nan"),
    "another d_in": (put(64, "hyper_parameters", "d_in"), "d_sae, d_in are [96, 64], but W_dec is [96, 32]"),
    "another model": (put("os.system", "hyper_parameters", "_class_path"), "model is 'VSAE', but the checkpoint has"),
}


@pytest.mark.parametrize("command", ["test", "fit"])
@pytest.mark.parametrize(("tamper", "expected"), RUNS.values(), ids=RUNS)
def test_a_command_refuses_a_tampered_checkpoint(
    command: str,
    tamper: Callable[[Checkpoint], None],
    expected: str,
    run: Path,
    base: list[str],
    desk: Path,
    refusal: Refusal,
) -> None:
    tampered(run, desk, tamper)
    assert expected in refusal([command, *base, "--ckpt_path", "bad.ckpt", "--trainer.max_steps", "20"])


@pytest.mark.parametrize("name", ["empty", "random bytes", "pickle with code", "torch file with code"])
def test_a_command_refuses_what_is_no_checkpoint(name: str, base: list[str], desk: Path, refusal: Refusal) -> None:
    (desk / "bad.ckpt").write_bytes(FILES[name])
    assert "bad.ckpt: not a readable checkpoint" in refusal(["predict", *base, "--ckpt_path", "bad.ckpt"])


NAMED: dict[str, tuple[str, Any]] = {
    "instantiator subprocess.call": ("_instantiator", "subprocess.call"),
    "instantiator of a stranger": ("_instantiator", "stranger.Model"),
    "class os.system": ("_class_path", "os.system"),
    "class of a stranger": ("_class_path", "stranger.Model"),
    "optimizer of a stranger": ("optimizer", {"class_path": "stranger.Optimizer", "init_args": {"lr": 0.1}}),
    "optimizer by its name alone": ("optimizer", "stranger.Optimizer"),
    "sparsifier of a stranger": ("sparsifier", {"class_path": "stranger.Sparsifier", "init_args": {"k": 6}}),
    "function reached through a package": ("optimizer", "lightning.pytorch.cli.os.system"),
    "settings in another file": ("optimizer", "settings.yaml"),
}


@pytest.mark.parametrize(("option", "value"), NAMED.values(), ids=NAMED)
@pytest.mark.parametrize("cls", ["VSAE", "SAE"])
def test_a_module_is_not_built_of_code_that_a_checkpoint_names(
    cls: str, option: str, value: Any, run: Path, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(desk)
    (desk / "settings.yaml").write_text("class_path: stranger.Optimizer\n")
    monkeypatch.syspath_prepend(str(desk))
    path = tampered(run, desk, put(value, "hyper_parameters", option))
    with pytest.raises(vl.InputError, match=r"bad\.ckpt: (hyper_parameters|its hyper-parameters name)"):
        getattr(vl, cls).load_from_checkpoint(path)
    assert not (desk / MARKER).exists()


@pytest.mark.parametrize("name", [name for name in NAMED if name.startswith(("instantiator", "class"))])
def test_the_base_class_builds_no_other_class(
    name: str, run: Path, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning itself sees to this; what the other hyper-parameters name is out of our reach there."""
    write_module(desk)
    monkeypatch.syspath_prepend(str(desk))
    option, value = NAMED[name]
    with pytest.raises(ValueError, match="blocked to prevent arbitrary code execution"):
        LightningModule.load_from_checkpoint(tampered(run, desk, put(value, "hyper_parameters", option)))
    assert not (desk / MARKER).exists()


def test_a_module_is_built_of_the_packages_classes_and_of_what_the_caller_gives(run: Path, desk: Path) -> None:
    path = tampered(run, desk, put("stranger.Optimizer", "hyper_parameters", "optimizer"))
    module = vl.VSAE.load_from_checkpoint(path, optimizer=torch.optim.SGD)
    assert torch.equal(module.autoencoder.W_dec, torch.load(path, weights_only=True)["state_dict"][W_DEC])
    with pytest.raises(vl.InputError, match="could execute code"):
        vl.VSAE.load_from_checkpoint(path, weights_only=False)

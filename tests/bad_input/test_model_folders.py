"""Bad folders of language models: torn, foreign, or with code in them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from code_in_files import MARKER, Exploit, write_module
from refusals import Refusal

WEIGHTS = "model.safetensors"
UP = "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"
Spoil = Callable[[Path], Any]


def rewrite(name: str, content: str | bytes) -> Spoil:
    encoded = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(encoded)


def config(**changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def cut(name: str, kept: int) -> Spoil:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:kept])


def remove(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def custom_code(folder: Path) -> None:
    write_module(folder, "modeling_stranger")
    names = {"AutoConfig": "modeling_stranger.Config", "AutoModelForCausalLM": "modeling_stranger.Model"}
    config(auto_map=names, model_type="stranger")(folder)


def custom_tokenizer(folder: Path) -> None:
    write_module(folder, "tokenization_stranger")
    names = {"auto_map": {"AutoTokenizer": [None, "tokenization_stranger.Tokenizer"]}, "tokenizer_class": "Tokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))


def pickled(folder: Path) -> None:
    torch.save({"weights": Exploit()}, folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def lying_header(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes((2**60).to_bytes(8, "little") + content[8:])


def another_shape(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file({**weights, UP: torch.zeros(96, 33)}, folder / WEIGHTS, {"format": "pt"})


def without_tensor(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        del weights[name]
        save_file(weights, folder / WEIGHTS, {"format": "pt"})

    return spoil


def another_model(folder: Path) -> None:
    save_file({"conv.weight": torch.zeros(3, 3)}, folder / WEIGHTS, {"format": "pt"})


def index(content: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / "part.safetensors")
        shutil.copy(folder / "part.safetensors", folder.parent / "outside.safetensors")
        (folder / f"{WEIGHTS}.index.json").write_text(content if isinstance(content, str) else json.dumps(content))

    return spoil


FOLDERS: dict[str, tuple[Spoil, str]] = {
    "no config.json": (without_config, "is a folder without config.json, so not a model"),
    "broken config.json": (rewrite("config.json", '{"model_type": "gpt_neox",'), "has no usable config"),
    "empty config.json": (rewrite("config.json", ""), "has no usable config"),
    "binary config.json": (rewrite("config.json", bytes(range(256))), "has no usable config"),
    "config.json a list": (rewrite("config.json", "[1, 2]"), "has no usable config"),
    "config.json a number": (rewrite("config.json", "7"), "has no usable config"),
    "config.json of nothing": (rewrite("config.json", "{}"), "has no usable config"),
    "model_type unknown": (config(model_type="gpt_nex"), "has no usable config"),
    "model_type a number": (config(model_type=7), "has no usable config"),
    "model of pictures": (config(model_type="vit"), "for this kind of AutoModel: AutoModelForCausalLM"),
    "layers a text": (config(num_hidden_layers="three"), "has no usable config"),
    "layers huge": (config(num_hidden_layers=10**12), "its num_hidden_layers is 1000000000000"),
    "layers 0": (config(num_hidden_layers=0), "its num_hidden_layers is 0"),
    "width negative": (config(hidden_size=-32), "its hidden_size is -32"),
    "width of another model": (config(hidden_size=64), "but its config.json says"),
    "heads that do not divide": (config(num_attention_heads=5), "not divisible by the number of attention heads"),
    "activation unknown": (config(hidden_act="gulp"), "has no usable config"),
    "code of its own": (custom_code, "has no usable config"),
    "no weights": (remove(WEIGHTS), "cannot be loaded: no model.safetensors"),
    "empty weights": (rewrite(WEIGHTS, b""), "model.safetensors' cannot be loaded"),
    "weights cut in the header": (cut(WEIGHTS, 100), "model.safetensors' cannot be loaded"),
    "weights cut in the tensors": (cut(WEIGHTS, 10_000), "model.safetensors' cannot be loaded"),
    "weights of random bytes": (rewrite(WEIGHTS, bytes(range(256)) * 50), "model.safetensors' cannot be loaded"),
    "weights whose header lies": (lying_header, "model.safetensors' cannot be loaded"),
    "weights a text": (rewrite(WEIGHTS, "version https://git-lfs.github.com/spec/v1\n"), "cannot be loaded"),
    "weights of another shape": (another_shape, "have the shape [96, 33], but its config.json says [96, 32]"),
    "weights with a tensor less": (without_tensor(UP), f"lack {UP}, which would be random"),
    "weights without embedding": (without_tensor("gpt_neox.embed_in.weight"), "lack gpt_neox.embed_in.weight"),
    "weights of another model": (another_model, "has weights of another kind of model"),
    "pickled weights with code": (pickled, "only pytorch_model.bin, which is pickled"),
    "index pointing outside": (
        index({"weight_map": {"a": "../outside.safetensors"}}),
        "names '../outside.safetensors'; it may name .safetensors beside it",
    ),
    "index with an absolute path": (index({"weight_map": {"a": "/etc/passwd"}}), "names '/etc/passwd'"),
    "index naming a pickle": (index({"weight_map": {"a": "pytorch_model.bin"}}), "names 'pytorch_model.bin'"),
    "index naming nothing there": (index({"weight_map": {"a": "x.safetensors"}}), "which is not there"),
    "index of numbers": (index({"weight_map": {"a": 5}}), "names '5'"),
    "index a list": (index([1]), "is no index of weights"),
    "index broken": (index("{"), "is no index of weights"),
    "no tokenizer.json": (remove("tokenizer.json"), "has no tokenizer.json; save its fast tokenizer there"),
    "broken tokenizer.json": (cut("tokenizer.json", 500), "the tokenizer of"),
    "tokenizer.json a list": (rewrite("tokenizer.json", "[]"), "the tokenizer of"),
    "tokenizer.json of nothing": (rewrite("tokenizer.json", "{}"), "the tokenizer of"),
    "tokenizer_config.json broken": (rewrite("tokenizer_config.json", "{"), "the tokenizer of"),
    "tokenizer with code of its own": (custom_tokenizer, "the tokenizer has no end-of-text token"),
    "tokenizer of a larger model": (
        config(vocab_size=10),
        "have the shape [300, 32], but its config.json says [10, 32]",
    ),
    "tokenizer without end": (
        rewrite("tokenizer_config.json", '{"tokenizer_class": "PreTrainedTokenizerFast"}'),
        "has no end-of-text token",
    ),
}


@pytest.mark.parametrize(("spoil", "expected"), FOLDERS.values(), ids=FOLDERS)
def test_a_bad_folder_is_refused(
    spoil: Spoil,
    expected: str,
    plain: list[str],
    tiny_model: Path,
    desk: Path,
    refusal: Refusal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question on the terminal"))
    shutil.copytree(tiny_model, desk / "lm")
    spoil(desk / "lm")
    message = refusal(["fit", *plain, "--data.model_name", "./lm"])
    assert expected in message
    assert not list(desk.rglob(MARKER))


NAMES = {
    "folder that is not there": ("./lm", "model_name: there is no folder './lm'"),
    "a file": ("./base.yaml", "model_name: there is no folder './base.yaml'"),
    "an empty folder": ("inner", "'inner' is a folder without config.json"),
    "a name that is none": ("pythia 70m", "neither a local path nor a hub name"),
    "a web address": ("https://huggingface.co/EleutherAI/pythia-70m", "neither a local path nor a hub name"),
    "nothing": ("", "'' is a folder without config.json"),
}


@pytest.mark.parametrize(("name", "expected"), NAMES.values(), ids=NAMES)
def test_a_bad_name_is_refused(name: str, expected: str, plain: list[str], desk: Path, refusal: Refusal) -> None:
    (desk / "inner").mkdir()
    assert expected in refusal(["fit", *plain, "--data.model_name", name])

"""Folders of other libraries that are torn, foreign, tampered with, or of a kind that cannot be expressed here."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import vsae_lightning as vl
from export_kinds import D_IN, D_SAE, made
from vsae_lightning.interop import dictionary_learning, saelens
from vsae_lightning.interop.inference import deployed
from vsae_lightning.origin import Origin

Spoil = Callable[[Path], Any]
NOTHING = Origin({}, {}, {}, {})


class Exploit:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


def config(file: str, *place: str, **changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        target = content
        for name in place:
            target = target[name]
        target.update(changes)
        (folder / file).write_text(json.dumps(content))

    return spoil


def write(file: str, content: bytes) -> Spoil:
    return lambda folder: (folder / file).write_bytes(content)


def cut(file: str) -> Spoil:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:-10])


def tensors(**changes: torch.Tensor | None) -> Spoil:
    def spoil(folder: Path) -> None:
        kept = {**load_file(folder / saelens.WEIGHTS), **changes}
        save_file({name: value for name, value in kept.items() if value is not None}, folder / saelens.WEIGHTS)

    return spoil


def state(**changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "ae.pt"
        kept = {**torch.load(path, weights_only=True), **{name.replace("__", "."): v for name, v in changes.items()}}
        torch.save({name: value for name, value in kept.items() if value is not None}, path)

    return spoil


SAELENS: dict[str, tuple[str, Spoil, str]] = {
    "config torn": ("topk", cut("cfg.json"), "cfg.json: not readable JSON"),
    "config a list": ("topk", write("cfg.json", b"[]"), "cfg.json: not a JSON object"),
    "config of brackets": ("topk", write("cfg.json", b"[" * 200_000), "cfg.json: not readable JSON"),
    "config huge": ("topk", write("cfg.json", b" " * 11_000_000), "has more than 10,000,000 bytes"),
    "before version 6": ("topk", config("cfg.json", metadata={}), "has no metadata.sae_lens_version"),
    "batchtopk": ("topk", config("cfg.json", architecture="batchtopk"), "architecture is 'batchtopk'; those of standa"),
    "transcoder": ("topk", config("cfg.json", architecture="transcoder"), "architecture is 'transcoder'"),
    "layer norm": ("topk", config("cfg.json", normalize_activations="layer_norm"), "normalize_activations is 'layer"),
    "reshaped": ("topk", config("cfg.json", reshape_activations="hook_z"), "reshape_activations is 'hook_z'"),
    "finetuned": ("topk", config("cfg.json", finetuning_scaling_factor=True), "finetuning_scaling_factor is set"),
    "k none": ("topk", config("cfg.json", k=None), "k is None; it must be a number from 1 to 32"),
    "k half": ("topk", config("cfg.json", k=2.5), "k is 2.5"),
    "k large": ("topk", config("cfg.json", k=33), "k is 33"),
    "d_sae huge": ("topk", config("cfg.json", d_sae=10**12), "d_in, d_sae are 8, 1000000000000, but W_enc is [8, 32]"),
    "weights torn": ("topk", cut("sae_weights.safetensors"), "not a readable safetensors file"),
    "weights a pickle": ("topk", write("sae_weights.safetensors", b"\x80\x04\x95"), "not a readable safetensors file"),
    "a tensor too much": ("topk", tensors(W_logvar=torch.zeros(3)), "they have, beyond it, W_logvar"),
    "a tensor missing": ("jumprelu", tensors(threshold=None), "they lack threshold"),
    "a tensor of nan": ("jumprelu", tensors(threshold=torch.full((32,), torch.nan)), "threshold holds nan"),
    "one threshold": ("jumprelu", tensors(threshold=torch.zeros(1)), "threshold is [1], but must be [32]"),
    "transposed": ("gated", tensors(W_dec=torch.zeros(8, 32)), "W_dec is [8, 32], but must be [32, 8]"),
    "no matrix": ("relu", tensors(W_enc=torch.zeros(8)), "there is no matrix 'W_enc' in it"),
}
DICTIONARY_LEARNING: dict[str, tuple[str, Spoil, str]] = {
    "config torn": ("topk", cut("config.json"), "config.json: not readable JSON"),
    "no config": ("topk", lambda folder: (folder / "config.json").unlink(), "config.json: cannot be read"),
    "trainer a list": ("topk", config("config.json", trainer=[]), "trainer.dict_class is None; known: AutoEncoder,"),
    "identity": ("topk", config("config.json", "trainer", dict_class="IdentityDict"), "dict_class is 'IdentityDict'"),
    "k a text": ("topk", config("config.json", "trainer", k="5"), "k is '5'"),
    "weights torn": ("topk", cut("ae.pt"), "ae.pt: not a readable state dict"),
    "weights no tensors": ("topk", state(k="five"), "ae.pt: not a state dict of named tensors"),
    "a trillion zeros": ("topk", state(b_dec=torch.zeros(1).expand(10**12)), "but fewer numbers are stored"),
    "a tensor missing": ("gated", state(r_mag=None), "they lack r_mag"),
    "another class": (
        "gated",
        config("config.json", "trainer", dict_class="AutoEncoder"),
        "they lack bias, encoder.bias",
    ),
    "groups that do not sum": (
        "matryoshka batchtopk",
        state(group_sizes=torch.tensor([8, 8])),
        "group_sizes is [8, 8]; it must be positive numbers with the sum 32",
    ),
    "negative group": (
        "matryoshka batchtopk",
        state(group_sizes=torch.tensor([40, -8])),
        "group_sizes is [40, -8]",
    ),
}


def refusal(folder: Path) -> str:
    with pytest.raises(vl.InputError) as error:
        vl.load(folder)
    assert str(folder) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("kind", "spoil", "expected"), SAELENS.values(), ids=SAELENS)
def test_a_bad_folder_of_saelens_is_refused(kind: str, spoil: Spoil, expected: str, tmp_path: Path) -> None:
    saelens.write(tmp_path, deployed(made(kind)), NOTHING)
    spoil(tmp_path)
    assert expected in refusal(tmp_path)


@pytest.mark.parametrize(("kind", "spoil", "expected"), DICTIONARY_LEARNING.values(), ids=DICTIONARY_LEARNING)
def test_a_bad_folder_of_dictionary_learning_is_refused(kind: str, spoil: Spoil, expected: str, tmp_path: Path) -> None:
    dictionary_learning.write(tmp_path, deployed(made(kind)), NOTHING)
    spoil(tmp_path)
    assert expected in refusal(tmp_path)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dictionary_learning.write(tmp_path, deployed(made("topk")), NOTHING)
    torch.save({"encoder.weight": torch.zeros(D_SAE, D_IN), "k": Exploit()}, tmp_path / "ae.pt")
    assert "not a readable state dict" in refusal(tmp_path)
    assert not (tmp_path / "executed").exists()


def sparsify_folder(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    weights = {"encoder.weight": torch.randn(D_SAE, D_IN), "encoder.bias": torch.randn(D_SAE)}
    weights |= {"W_dec": torch.randn(D_SAE, D_IN), "b_dec": torch.randn(D_IN)}
    save_file(weights, folder / "sae.safetensors")
    settings = {"activation": "topk", "k": 4, "d_in": D_IN, "num_latents": D_SAE, **changes}
    (folder / "cfg.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"activation": "groupmax"}, "activation is 'groupmax'; only topk can be read"),
        ({"transcode": True}, "transcode is set: a transcoder"),
        ({"skip_connection": True}, "skip_connection is set: one with a skip connection"),
        ({"d_in": 9}, "d_in is 9, but encoder.weight is [32, 8]"),
        ({"k": 0}, "k is 0; it must be a number from 1 to 32"),
    ],
)
def test_what_of_sparsify_cannot_be_expressed_is_refused(
    changes: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    assert expected in refusal(sparsify_folder(tmp_path / "layers.3", **changes))


def test_a_folder_of_hookpoints_names_them(tmp_path: Path) -> None:
    for name in ("layers.3", "layers.5.mlp"):
        sparsify_folder(tmp_path / name)
    assert "each of the hookpoints layers.3, layers.5.mlp; give one of these folders" in refusal(tmp_path)


def test_sparsify_by_its_formula(tmp_path: Path) -> None:
    folder = sparsify_folder(tmp_path / "layers.3")
    w = load_file(folder / "sae.safetensors")
    x = torch.randn(7, D_IN)
    pre = ((x - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"]).relu()
    values, indices = pre.topk(4)
    expected = torch.stack([v @ w["W_dec"][i] for v, i in zip(values, indices, strict=True)]) + w["b_dec"]
    torch.testing.assert_close(vl.load(folder)(x), expected)


@pytest.mark.parametrize("threshold", [-1.0, 0.0])
def test_a_threshold_that_is_not_positive_is_that_of_a_relu(threshold: float, tmp_path: Path) -> None:
    saelens.write(tmp_path, deployed(made("jumprelu")), NOTHING)
    tensors(threshold=torch.full((D_SAE,), threshold))(tmp_path)
    loaded, x = vl.load(tmp_path), torch.randn(9, D_IN)
    pre = (x - loaded.b_dec) @ loaded.W_enc + loaded.b_enc
    torch.testing.assert_close(loaded.encode(x), pre.relu())


def test_norms_of_the_decoder_in_the_selection_are_folded(tmp_path: Path) -> None:
    """SAELens's `rescale_acts_by_decoder_norm`: TopK of pre_acts * norm, each divided by its norm to decode."""
    autoencoder = made("topk", unit=False)
    saelens.write(tmp_path, deployed(autoencoder), NOTHING)
    config("cfg.json", rescale_acts_by_decoder_norm=True)(tmp_path)
    x = 8 * torch.randn(9, D_IN)
    norms = autoencoder.W_dec.norm(dim=-1)
    pre = ((x - autoencoder.b_dec) @ autoencoder.W_enc + autoencoder.b_enc) * norms
    kept = torch.zeros_like(pre).scatter(-1, pre.topk(5).indices, pre.topk(5).values.relu())
    expected = (kept / norms) @ autoencoder.W_dec + autoencoder.b_dec
    torch.testing.assert_close(vl.load(tmp_path)(x), expected, rtol=1e-5, atol=1e-4)

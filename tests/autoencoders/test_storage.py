"""What is saved loads the same; what is foreign or torn is refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import vsae_lightning as vl
from vsae_lightning.autoencoders.storage import build


class Exploit:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


@pytest.mark.parametrize("sigma", ["learned", 0.5, 0.0])
def test_saved_folder_loads_bit_equal(tmp_path: Path, sigma: Any) -> None:
    ae = vl.VariationalAutoencoder(6, 24, vl.TopK(4, by="magnitude"), sigma=sigma, relu_mean=True)
    for parameter in ae.parameters():
        parameter.data.normal_()
    vl.save(ae, tmp_path / "exported")
    loaded = vl.load(tmp_path / "exported")
    assert loaded.config() == ae.config()
    assert not loaded.training
    x = torch.randn(9, 6)
    assert torch.equal(loaded.encode(x), ae.encode(x))
    assert torch.equal(loaded(x), ae(x))
    assert {path.name for path in (tmp_path / "exported").iterdir()} == {
        "autoencoder.json",
        "autoencoder.safetensors",
    }


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"autoencoder": Exploit(), "state_dict": {}}, tmp_path / "evil.ckpt")
    with pytest.raises(vl.InputError, match="not a readable checkpoint"):
        vl.load(tmp_path / "evil.ckpt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_a_torn_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "torn.ckpt"
    path.write_bytes(content)
    with pytest.raises(vl.InputError, match=r"torn\.ckpt: not a readable checkpoint"):
        vl.load(path)


def test_a_checkpoint_of_another_program_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.ckpt")
    with pytest.raises(vl.InputError, match="not one of vsae_lightning"):
        vl.load(tmp_path / "other.ckpt")


def test_missing_paths_are_named(tmp_path: Path) -> None:
    with pytest.raises(vl.InputError, match="no such file or folder"):
        vl.load(tmp_path / "nowhere")
    with pytest.raises(vl.InputError, match="neither"):
        vl.load(tmp_path)


def test_a_torn_export_is_refused(tmp_path: Path) -> None:
    vl.save(vl.SparseAutoencoder(4, 8, vl.ReLU()), tmp_path)
    weights = tmp_path / "autoencoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(vl.InputError, match="not a readable exported autoencoder"):
        vl.load(tmp_path)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    vl.save(vl.SparseAutoencoder(4, 8, vl.ReLU()), tmp_path)
    config = json.loads((tmp_path / "autoencoder.json").read_text())
    config["init_args"]["d_sae"] = 9
    (tmp_path / "autoencoder.json").write_text(json.dumps(config))
    with pytest.raises(vl.InputError, match="do not fit"):
        vl.load(tmp_path)


@pytest.mark.parametrize("name", ["os.system", "Sparsifier.__init__", "InputError", "missing"])
def test_only_sparsifiers_of_the_package_can_be_named(name: str) -> None:
    config = vl.SparseAutoencoder(4, 8, vl.ReLU()).config()
    config["init_args"]["sparsifier"]["class_name"] = name
    with pytest.raises(vl.InputError, match="unknown sparsifier"):
        build(config)


def test_only_autoencoders_of_the_package_can_be_named() -> None:
    config = vl.SparseAutoencoder(4, 8, vl.ReLU()).config()
    config["class_name"] = "Linear"
    with pytest.raises(vl.InputError, match="unknown autoencoder 'Linear'"):
        build(config)


def test_halves_of_two_exports_are_refused(tmp_path: Path) -> None:
    for seed, folder in ((1, "one"), (2, "other")):
        vl.save(vl.SparseAutoencoder(4, 8, vl.TopK(2), seed=seed), tmp_path / folder)
    (tmp_path / "other" / "autoencoder.safetensors").replace(tmp_path / "one" / "autoencoder.safetensors")
    with pytest.raises(vl.InputError, match=r"one/autoencoder\.safetensors: not the weights that autoencoder\.json"):
        vl.load(tmp_path / "one")

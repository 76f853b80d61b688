"""dictionary_learning and SAEBench read what is exported for them, and what the former trained is read here."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("dictionary_learning")

from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.gdm import GatedSAETrainer
from dictionary_learning.trainers.jumprelu import JumpReluTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.standard import StandardTrainer, StandardTrainerAprilUpdate
from dictionary_learning.trainers.top_k import TopKTrainer
from dictionary_learning.training import trainSAE
from dictionary_learning.utils import load_dictionary

import vsae_lightning as vl
from export_kinds import D_IN, D_SAE, KINDS, K, error, made, rows
from vsae_lightning.interop import dictionary_learning
from vsae_lightning.interop.inference import deployed
from vsae_lightning.loading import origin_of
from vsae_lightning.origin import Origin

ORIGIN = Origin(
    {"model_name": "EleutherAI/pythia-70m", "hook_name": "blocks.3.hook_resid_post", "context_length": 96}, {}, {}, {}
)
TRAINERS: dict[str, tuple[type, dict[str, Any]]] = {
    "standard": (StandardTrainer, {"l1_penalty": 0.01, "warmup_steps": 2, "sparsity_warmup_steps": None}),
    "april": (StandardTrainerAprilUpdate, {"l1_penalty": 0.01, "warmup_steps": 2, "sparsity_warmup_steps": None}),
    "topk": (TopKTrainer, {"k": K, "warmup_steps": 2, "threshold_start_step": 3}),
    "batchtopk": (BatchTopKTrainer, {"k": K, "warmup_steps": 2, "threshold_start_step": 3}),
    "matryoshka": (
        MatryoshkaBatchTopKTrainer,
        {"k": K, "warmup_steps": 2, "threshold_start_step": 3, "group_fractions": [0.25, 0.25, 0.5]},
    ),
    "jumprelu": (JumpReluTrainer, {"warmup_steps": 2, "sparsity_warmup_steps": 5, "target_l0": K}),
    "gated": (GatedSAETrainer, {"l1_penalty": 0.01, "warmup_steps": 2, "sparsity_warmup_steps": None}),
}


@pytest.mark.parametrize("unit", [True, False], ids=["one norm", "different norms"])
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_dictionary_learning_computes_the_same(options: dict[str, Any], unit: bool, tmp_path: Path) -> None:
    autoencoder, x = made(**options, unit=unit), rows()
    dictionary_learning.write(tmp_path, deployed(autoencoder), ORIGIN)
    dictionary, config = load_dictionary(str(tmp_path), device="cpu")
    assert error(dictionary(x), autoencoder(x)) < 1e-5
    assert torch.equal(dictionary.encode(x) > 0, autoencoder.encode(x) > 0)
    assert error(dictionary.encode(x), vl.load(tmp_path).encode(x)) < 1e-5
    assert config["trainer"]["lm_name"] == "EleutherAI/pythia-70m"


@pytest.mark.parametrize("normalize", [True, False], ids=["normalized", "raw"])
@pytest.mark.parametrize("name", TRAINERS)
def test_what_dictionary_learning_trained_is_read(name: str, normalize: bool, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    data = [3 + 8 * torch.randn(32, D_IN, generator=generator) for _ in range(20)]
    trainer, options = TRAINERS[name]
    common = {"steps": 20, "activation_dim": D_IN, "dict_size": D_SAE, "layer": 2, "lm_name": "gpt2", "seed": 0}
    settings = {**common, **options, "trainer": trainer, "device": "cpu", "submodule_name": "resid_post_layer_2"}
    trainSAE(data, [settings], steps=20, save_dir=str(tmp_path), normalize_activations=normalize, device="cpu")
    dictionary, _ = load_dictionary(str(tmp_path / "trainer_0"), device="cpu")
    loaded, x = vl.load(tmp_path / "trainer_0"), rows()
    assert error(loaded(x), dictionary(x)) < 1e-5
    if name != "april":  # whose loader normalizes the rows; ours reads what is there
        assert error(loaded.encode(x), dictionary.encode(x)) < 1e-5
    known = {"model_name": "gpt2", "hook_name": "blocks.2.hook_resid_post", "drop_positions": 0}
    assert origin_of(tmp_path / "trainer_0").provenance == known


@pytest.mark.parametrize("cls", [AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder])
def test_random_weights_of_each_class_are_read(cls: Any, tmp_path: Path) -> None:
    dictionary = cls(D_IN, D_SAE)
    for parameter in dictionary.parameters():
        parameter.data.normal_()
    torch.save(dictionary.state_dict(), tmp_path / "ae.pt")
    (tmp_path / "config.json").write_text(json.dumps({"trainer": {"dict_class": cls.__name__}}))
    loaded, x = vl.load(tmp_path), rows()
    assert error(loaded(x), dictionary(x)) < 1e-5
    assert error(loaded.encode(x), dictionary.encode(x)) < 1e-5


LOADERS = {
    "topk": ("topk_sae", "load_dictionary_learning_topk_sae"),
    "batchtopk": ("batch_topk_sae", "load_dictionary_learning_batch_topk_sae"),
    "matryoshka batchtopk": ("batch_topk_sae", "load_dictionary_learning_matryoshka_batch_topk_sae"),
    "jumprelu": ("jumprelu_sae", "load_dictionary_learning_jump_relu_sae"),
    "gated": ("gated_sae", "load_dictionary_learning_gated_sae"),
    "relu": ("relu_sae", "load_dictionary_learning_relu_sae"),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_loaders_of_saebench_accept_it(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the download replaced by a copy: the file route, without the hub."""
    pytest.importorskip("sae_bench")
    from importlib import import_module

    autoencoder, x = made(kind), rows()
    dictionary_learning.write(tmp_path, deployed(autoencoder), ORIGIN)

    def download(repo_id: str, filename: str, local_dir: str, **options: Any) -> str:
        folder = tmp_path / local_dir
        folder.mkdir(exist_ok=True)
        return str(shutil.copy(tmp_path / filename, folder / filename))

    file, name = LOADERS[kind]
    module = import_module(f"sae_bench.custom_saes.{file}")
    monkeypatch.setattr(module, "hf_hub_download", download)
    sae = getattr(module, name)("owner/name", "ae.pt", "pythia-70m", torch.device("cpu"), torch.float32, layer=3)
    with torch.no_grad():
        assert error(sae(x), autoencoder(x)) < 1e-5
        assert error(sae.encode(x), vl.load(tmp_path).encode(x)) < 1e-5

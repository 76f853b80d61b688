"""What is exported loads the same, here, without the library whose format it is; what cannot be expressed is named."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import vsae_lightning as vl
from export_kinds import D_IN, D_SAE, KINDS, error, made, rows
from vsae_lightning.interop import dictionary_learning, saelens
from vsae_lightning.interop.inference import common_norm, deployed, scale_latents_, set_pre_bias_
from vsae_lightning.loading import origin_of
from vsae_lightning.origin import Origin

ORIGIN = Origin(
    {"model_name": "EleutherAI/pythia-70m", "hook_name": "blocks.3.hook_resid_post", "context_length": 96},
    {"seed_everything": 7},
    {"test/l0": 5.0},
    {"class_name": "VariationalAutoencoder", "init_args": {"sigma": 0.3}},
)


@pytest.mark.parametrize("library", [saelens, dictionary_learning], ids=["saelens", "dictionary_learning"])
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_an_export_loads_equal(options: dict[str, Any], library: ModuleType, tmp_path: Path) -> None:
    autoencoder = made(**options)
    library.write(tmp_path, deployed(autoencoder), ORIGIN)
    loaded = vl.load(tmp_path)
    assert error(loaded(rows()), autoencoder(rows())) < 1e-6
    # SAELens keeps the latents; dictionary_learning has them in units of the raw activations, 1 / 0.13 times ours.
    factor = 1.0 if library is saelens else 1 / 0.13
    assert error(loaded.encode(rows()), factor * autoencoder.encode(rows())) < 1e-6
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "jumprelu", "relu", "gated", "matryoshka batchtopk"])
def test_rows_of_different_norms_are_exported_exactly(kind: str, tmp_path: Path) -> None:
    autoencoder = made(kind, unit=False)
    assert common_norm(autoencoder.W_dec) is None
    dictionary_learning.write(tmp_path, deployed(autoencoder), ORIGIN)
    loaded = vl.load(tmp_path)
    assert error(loaded(rows()), autoencoder(rows())) < 1e-6
    active = loaded.encode(rows()) > 0
    assert torch.equal(active, autoencoder.encode(rows()) > 0)
    unit = torch.allclose(loaded.W_dec.norm(dim=-1), torch.ones(D_SAE), atol=1e-6)
    assert unit == (kind != "topk")  # the largest of a row are others where latents are rescaled one by one
    if kind.endswith("batchtopk"):
        assert isinstance(loaded.sparsifier, vl.JumpReLU)


def test_rescaled_latents_by_hand() -> None:
    autoencoder = made("jumprelu")
    scaled = deployed(autoencoder)
    scale_latents_(scaled, torch.full((D_SAE,), 4.0))
    assert torch.equal(scaled.W_enc, 4 * autoencoder.W_enc)
    assert torch.equal(scaled.W_dec, autoencoder.W_dec / 4)
    before, after = (ae.sparsifier.get_parameter("log_threshold").exp() for ae in (autoencoder, scaled))
    torch.testing.assert_close(after, 4 * before)


def test_the_bias_before_the_encoder_moves_into_the_encoders() -> None:
    autoencoder = deployed(made("relu"))
    before, bias = autoencoder(rows()), autoencoder.b_enc.clone()
    set_pre_bias_(autoencoder, False)
    torch.testing.assert_close(autoencoder.b_enc, bias - autoencoder.W_enc.T @ autoencoder.b_dec)
    assert error(autoencoder(rows()), before) < 1e-6


@pytest.mark.parametrize(
    ("sparsifier", "name"), [(vl.Dense(), "Dense"), (vl.TopK(3, by="magnitude"), "TopK by magnitude")]
)
def test_latents_that_may_be_negative_are_refused(sparsifier: vl.Sparsifier, name: str) -> None:
    with pytest.raises(vl.InputError, match=f"format: {name} cannot be expressed by other libraries"):
        deployed(vl.SparseAutoencoder(D_IN, D_SAE, sparsifier))


@pytest.mark.parametrize("sparsifier", [vl.Dense(), vl.TopK(3, by="magnitude")])
def test_but_not_where_the_mean_is_never_negative(sparsifier: vl.Sparsifier) -> None:
    autoencoder = vl.VariationalAutoencoder(D_IN, D_SAE, sparsifier, relu_mean=True, seed=4).eval()
    plain = deployed(autoencoder)
    assert torch.allclose(plain.encode(rows()), autoencoder.encode(rows()), atol=1e-6)


def test_saelens_metadata(tmp_path: Path) -> None:
    saelens.write(tmp_path, deployed(made("batchtopk")), ORIGIN)
    config = json.loads((tmp_path / "cfg.json").read_text())
    assert config["architecture"] == "jumprelu"
    assert config["dtype"] == "float32"
    assert config["metadata"]["sae_lens_version"] == "6.54.12"
    assert config["metadata"]["training_architecture"] == "batchtopk"
    assert config["metadata"]["model_name"] == "EleutherAI/pythia-70m"
    assert config["metadata"]["hook_name"] == "blocks.3.hook_resid_post"
    assert config["metadata"]["context_size"] == 96
    assert origin_of(tmp_path) == ORIGIN


def test_dictionary_learning_metadata(tmp_path: Path) -> None:
    dictionary_learning.write(tmp_path, deployed(made("topk")), ORIGIN)
    config = json.loads((tmp_path / "config.json").read_text())
    trainer = config["trainer"]
    assert (trainer["dict_class"], trainer["trainer_class"]) == ("AutoEncoderTopK", "TopKTrainer")
    assert (trainer["activation_dim"], trainer["dict_size"], trainer["k"]) == (D_IN, D_SAE, 5)
    assert (trainer["layer"], trainer["lm_name"]) == (3, "EleutherAI/pythia-70m")
    assert trainer["submodule_name"] == "resid_post_layer_3"
    assert config["buffer"]["ctx_len"] == 96
    assert origin_of(tmp_path) == ORIGIN


def test_foreign_metadata_becomes_provenance(tmp_path: Path) -> None:
    dictionary_learning.write(tmp_path, deployed(made("topk")), ORIGIN)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["vsae_lightning"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert origin_of(tmp_path).provenance == {**ORIGIN.provenance, "drop_positions": 0}


def test_our_own_format_keeps_all(tmp_path: Path) -> None:
    autoencoder = made("topk", sigma="learned")
    vl.save(autoencoder, tmp_path, ORIGIN._asdict())
    loaded = vl.load(tmp_path)
    assert loaded.config() == autoencoder.config()
    assert torch.equal(loaded.get_parameter("W_var"), autoencoder.get_parameter("W_var"))
    assert origin_of(tmp_path) == ORIGIN


def test_a_member_of_no_ensemble(tmp_path: Path) -> None:
    saelens.write(tmp_path, deployed(made("topk")), ORIGIN)
    with pytest.raises(vl.InputError, match=r"member is 'a', but .* is no ensemble"):
        vl.load(tmp_path, member="a")

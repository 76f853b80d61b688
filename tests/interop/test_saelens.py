"""SAELens reads what is exported for it, and what SAELens trained and saved is read here: equal to 1e-5."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("sae_lens")

import sae_lens
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import SAEMetadata
from sae_lens.training.sae_trainer import SAETrainer

import vsae_lightning as vl
from export_kinds import D_IN, D_SAE, KINDS, K, error, made, rows
from vsae_lightning.interop import saelens
from vsae_lightning.interop.inference import deployed
from vsae_lightning.loading import origin_of
from vsae_lightning.origin import Origin

ORIGIN = Origin({"model_name": "pythia-70m", "hook_name": "blocks.3.hook_resid_post", "context_length": 96}, {}, {}, {})
TRAINING = {
    "standard": sae_lens.StandardTrainingSAEConfig,
    "topk": sae_lens.TopKTrainingSAEConfig,
    "batchtopk": sae_lens.BatchTopKTrainingSAEConfig,
    "matryoshka": sae_lens.MatryoshkaBatchTopKTrainingSAEConfig,
    "jumprelu": sae_lens.JumpReLUTrainingSAEConfig,
    "gated": sae_lens.GatedTrainingSAEConfig,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "topk": {"k": K},
    "batchtopk": {"k": float(K)},
    "matryoshka": {"k": float(K), "matryoshka_widths": [8, 16, D_SAE]},
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_saelens_computes_the_same(options: dict[str, Any], tmp_path: Path) -> None:
    autoencoder, x = made(**options), rows()
    saelens.write(tmp_path, deployed(autoencoder), ORIGIN)
    sae = sae_lens.SAE.load_from_disk(tmp_path)
    assert error(sae(x), autoencoder(x)) < 1e-5
    assert error(sae.encode(x), autoencoder.encode(x)) < 1e-5
    assert error(sae(x.reshape(4, 16, -1)), autoencoder(x).reshape(4, 16, -1)) < 1e-5


def test_metadata_survive_a_round_trip_through_saelens(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    saelens.write(tmp_path / "ours", deployed(made("topk")), ORIGIN)
    sae = sae_lens.SAE.load_from_disk(tmp_path / "ours")
    assert sae.cfg.metadata.model_name == "pythia-70m"
    assert sae.cfg.metadata.hook_name == "blocks.3.hook_resid_post"
    assert sae.cfg.metadata.context_size == 96
    sae.save_model(tmp_path / "theirs")
    assert origin_of(tmp_path / "theirs") == ORIGIN
    assert torch.equal(vl.load(tmp_path / "theirs")(rows()), vl.load(tmp_path / "ours")(rows()))


@pytest.mark.parametrize("normalize", ["none", "expected_average_only_in", "covariance_whitening"])
@pytest.mark.parametrize("before", [True, False], ids=["centred", "not centred"])
@pytest.mark.parametrize("name", TRAINING)
def test_what_saelens_trained_is_read(name: str, before: bool, normalize: str, tmp_path: Path) -> None:
    metadata = SAEMetadata(model_name="gpt2", hook_name="blocks.2.hook_resid_pre", context_size=64, prepend_bos=True)
    config = TRAINING[name](
        d_in=D_IN,
        d_sae=D_SAE,
        apply_b_dec_to_input=before,
        normalize_activations=normalize,
        metadata=metadata,
        **OPTIONS.get(name, {}),
    )

    def activations() -> Iterator[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        while True:
            yield 3 + 8 * torch.randn(32, D_IN, generator=generator)

    torch.manual_seed(0)
    trained = sae_lens.TrainingSAE.from_dict(config.to_dict())
    trainer = SAETrainerConfig(
        total_training_samples=640, train_batch_size_samples=32, lr=1e-2, lr_end=1e-2, n_batches_for_norm_estimate=10
    )
    trained = SAETrainer(trainer, trained, activations()).fit()
    trained.save_inference_model(tmp_path)
    sae, loaded, x = sae_lens.SAE.load_from_disk(tmp_path), vl.load(tmp_path), rows()
    assert error(loaded(x), sae(x)) < 1e-5
    assert error(loaded.encode(x), sae.encode(x)) < 1e-5
    assert origin_of(tmp_path).provenance == {
        "model_name": "gpt2",
        "hook_name": "blocks.2.hook_resid_pre",
        "context_length": 64,
        "prepend_bos": True,
        "drop_positions": 0,
    }


def test_decoder_norms_in_the_selection_of_a_topk(tmp_path: Path) -> None:
    config = sae_lens.TopKSAEConfig(d_in=D_IN, d_sae=D_SAE, k=K, rescale_acts_by_decoder_norm=True)
    sae = sae_lens.TopKSAE(config)
    for parameter in sae.parameters():
        parameter.data.normal_()
    sae.save_model(tmp_path)
    assert error(vl.load(tmp_path)(rows()), sae(rows())) < 1e-5

"""The paper's runs, in small: as run the "vSAE" kills its features, and what kills them is the KL on all latents.

A known dictionary stands in for Pythia, so that seconds suffice; the presets themselves are measured on the
bundled model (configs/paper/bundled).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

import vsae_lightning as vl

K, D_SAE, STEPS = 8, 256, 400
AS_RUN: dict[str, Any] = {
    "sigma": 0.0,
    "prior": vl.StandardNormal(mean_limit=10.0),
    "kl_weight": 1.0,
    "kl_warmup_steps": STEPS // 10,
    "kl_on": "all",
    "relu_mean": True,
    "pre_bias": False,
    "decoder": "free",
    "decoder_norm": 0.1,
    "bias_init": "zero",
    "aux_weight": 0.0,
}


def train(module: Any, trainer: Trainer) -> dict[str, float]:
    data = vl.SyntheticDataModule(
        d_in=32,
        num_features=128,
        mean_active=6.0,
        zipf_exponent=0.5,
        scale_to="one",
        batch_size=128,
        validation_rows=4096,
        seed=0,
    )
    trainer.fit(module, data)
    return {name: float(value) for name, value in trainer.validate(module, data, verbose=False)[0].items()}


def optimizers(lr: float) -> dict[str, Any]:
    return {"optimizer": partial(torch.optim.Adam, lr=lr), "scheduler": vl.WarmupDecay, "seed": 0}


@pytest.fixture(scope="module")
def measured(quiet_trainer: Callable[[int], Trainer]) -> dict[str, dict[str, float]]:
    by_magnitude = partial(vl.TopK, K, by="magnitude")
    modules = {
        "topk": vl.SAE(32, D_SAE, vl.TopK(K), dead_after_tokens=10**7, **optimizers(4e-3)),
        "as run": vl.VSAE(32, D_SAE, by_magnitude(), **AS_RUN, **optimizers(4e-3)),
        "selected": vl.VSAE(32, D_SAE, by_magnitude(), **{**AS_RUN, "kl_on": "selected"}, **optimizers(4e-3)),
        "as written": vl.VSAE(32, D_SAE, by_magnitude(), **{**AS_RUN, "sigma": 1.0}, **optimizers(4e-3)),
    }
    return {name: train(module, quiet_trainer(STEPS)) for name, module in modules.items()}


def test_as_run_kills_its_features_and_topk_does_not(measured: Any) -> None:
    alive = {name: 1 - values["val/dead_fraction"] for name, values in measured.items()}
    assert alive["as run"] < alive["topk"] / 2
    assert alive["selected"] > 1.5 * alive["as run"]


def test_as_run_still_reconstructs_and_as_written_does_not(measured: Any) -> None:
    explained = {name: values["val/explained_variance"] for name, values in measured.items()}
    assert explained["as run"] > explained["topk"] / 2
    assert explained["as written"] < 0.2

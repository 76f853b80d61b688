"""Losses of short trainings as the dense products gave them, before anything here was sparse."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

import vsae_lightning as vl
from vsae_lightning.batches import ActivationBatch
from vsae_lightning.modules.base import AutoencoderModule

D_IN, D_SAE, ROWS, STEPS, K = 24, 96, 64, 40, 6
SHOWN = (0, 9, 24, 39)
Make = Callable[[], AutoencoderModule]


class Rows:
    """Sparse sums of 60 fixed directions, and a little noise."""

    def __iter__(self) -> Iterator[ActivationBatch]:
        chance = torch.Generator().manual_seed(5)
        directions = torch.randn(60, D_IN, generator=chance)
        for step in range(STEPS):
            codes = torch.rand(ROWS, 60, generator=chance) * (torch.rand(ROWS, 60, generator=chance) < 0.06)
            noise = 0.02 * torch.randn(ROWS, D_IN, generator=chance)
            yield ActivationBatch(codes @ directions + noise, step, (0, 1), step * ROWS // 2)


class Losses(Callback):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seen.append(float(outputs["loss"]))


def sae(sparsifier: vl.Sparsifier, **options: Any) -> Make:
    return lambda: vl.SAE(D_IN, D_SAE, sparsifier, **COMMON, **options)


def vsae(sparsifier: vl.Sparsifier, **options: Any) -> Make:
    return lambda: vl.VSAE(D_IN, D_SAE, sparsifier, **COMMON, **options)


def with_dead_latents(make: Make) -> Make:
    """Forty latents that cannot fire at first."""

    def made() -> AutoencoderModule:
        module = make()
        module.autoencoder.b_enc.data[-40:] = -6
        return module

    return made


def adam(parameters: Iterator[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=3e-3)


COMMON: dict[str, Any] = {"dead_after_tokens": 10 * ROWS, "optimizer": adam, "seed": 3}
RUNS: dict[str, tuple[Make, tuple[float, ...]]] = {
    "TopK SAE": (sae(vl.TopK(K)), (19.23634, 17.30478, 10.78448, 9.711255)),
    "TopK SAE, aligned, without pre_bias": (
        sae(vl.TopK(K), encoder="aligned", pre_bias=False),
        (20.03261, 19.30193, 13.21223, 12.16602),
    ),
    "TopK SAE with L1, free decoder": (
        sae(vl.TopK(K), sparsity_weight=0.1, decoder="free"),
        (20.30975, 17.27564, 11.02676, 9.933313),
    ),
    "TopK SAE with gate KL": (sae(vl.TopK(K), gate_kl_weight=0.1), (19.41337, 17.67555, 11.19587, 10.1977)),
    "TopK SAE, k annealed, resampled": (
        sae(vl.TopK(K, k_start=20, k_anneal_steps=15), resample_every_steps=12),
        (55.10782, 25.2345, 10.96498, 9.812719),
    ),
    "Matryoshka TopK SAE": (sae(vl.Matryoshka(vl.TopK(K), [12, 40])), (59.39682, 63.26511, 50.97514, 45.4047)),
    "BatchTopK SAE": (sae(vl.BatchTopK(K)), (32.92887, 28.3532, 16.14204, 11.39573)),
    "ReLU SAE": (sae(vl.ReLU(), sparsity_weight=0.3), (84.37952, 48.43987, 20.13772, 10.29903)),
    "JumpReLU SAE": (sae(vl.JumpReLU(), sparsity_weight=0.1), (78.0423, 43.15605, 17.08071, 8.559867)),
    "TopK vSAE, sigma learned": (
        vsae(vl.TopK(K), kl_weight=0.1, kl_warmup_steps=5),
        (22.62316, 23.22744, 15.19547, 12.9318),
    ),
    "TopK vSAE, sigma learned, KL on all": (
        vsae(vl.TopK(K), kl_weight=0.01, kl_on="all", kl_warmup_steps=5),
        (22.62316, 22.93977, 15.01451, 12.85396),
    ),
    "TopK vSAE, sigma learned, selected by the mean": (
        vsae(vl.TopK(K), kl_weight=0.1, select="mean", kl_warmup_steps=5),
        (19.73082, 19.99233, 12.77392, 11.57106),
    ),
    "TopK vSAE, sigma 0.1": (
        vsae(vl.TopK(K), sigma=0.1, kl_weight=0.1, sigma_warmup_steps=0),
        (19.7807, 17.89843, 11.56125, 10.39261),
    ),
    "TopK vSAE, sigma warmed up, ReLU mean": (
        vsae(vl.TopK(K), sigma=0.3, kl_weight=0.0, sigma_warmup_steps=20, relu_mean=True),
        (19.23634, 17.98764, 13.57573, 11.70347),
    ),
    "TopK vSAE, sigma 0.1, KL on all": (
        vsae(vl.TopK(K), sigma=0.1, kl_weight=0.01, kl_on="all"),
        (19.7807, 17.89934, 11.56833, 10.40859),
    ),
    "TopK vSAE as published": (
        vsae(
            vl.TopK(K, by="magnitude"),
            sigma=0.0,
            kl_weight=0.1,
            kl_on="all",
            relu_mean=False,
            prior=vl.StandardNormal(10.0),
        ),
        (25.2655, 22.68439, 13.53454, 10.21825),
    ),
    "TopK vSAE by magnitude, running prior": (
        vsae(vl.TopK(K, by="magnitude"), sigma=0.2, kl_weight=0.1, prior=vl.ScaledNormal("running")),
        (26.98775, 24.35747, 15.03586, 11.31809),
    ),
    "TopK vSAE, closed form, ELBO": (
        vsae(vl.TopK(K), sigma="closed_form", kl_weight="elbo"),
        (29.55977, 32.41328, 25.28972, 21.2708),
    ),
    "TopK vSAE, noise on the input": (
        vsae(vl.TopK(K), sigma=0.1, covariance="encoder", kl_weight=0.0),
        (19.95552, 17.90137, 11.43248, 10.05728),
    ),
    "Matryoshka TopK vSAE": (
        vsae(vl.Matryoshka(vl.TopK(K), [12, 40]), kl_weight=0.1),
        (64.02577, 70.25707, 57.04687, 50.63375),
    ),
    "ReLU vSAE": (vsae(vl.ReLU(), kl_weight=0.1, kl_on="all", sigma=0.1), (73.22011, 39.74452, 14.2849, 6.30279)),
    "TopK SAE with dead latents": (with_dead_latents(sae(vl.TopK(K))), (17.66122, 17.05896, 12.3961, 9.881255)),
    "TopK vSAE with dead latents, noise on the input": (
        with_dead_latents(vsae(vl.TopK(K), sigma=0.1, covariance="encoder", kl_weight=0.0)),
        (18.19564, 17.386, 12.49895, 10.14572),
    ),
    "TopK vSAE with dead latents": (
        with_dead_latents(vsae(vl.TopK(K), kl_weight=0.1)),
        (20.24384, 19.16094, 14.34338, 11.72327),
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_losses_are_those_of_dense_products(name: str, quiet_trainer: Callable[[int], Trainer]) -> None:
    make, golden = RUNS[name]
    losses = Losses()
    trainer: Any = quiet_trainer(STEPS)
    trainer.callbacks.append(losses)
    trainer.fit(make(), Rows())
    assert [losses.seen[step] for step in SHOWN] == pytest.approx(golden, rel=2e-5)

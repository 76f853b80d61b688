"""Recovery under a real Trainer, by members whose latents and posteriors are made from the truth."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from scipy.optimize import linear_sum_assignment
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

import vsae_lightning as vl
from vsae_lightning.autoencoders.latents import DenseLatents
from vsae_lightning.autoencoders.posterior import Posterior
from vsae_lightning.batches import SyntheticBatch
from vsae_lightning.callbacks import DictionaryRecovery
from vsae_lightning.data.synthetic import SyntheticDataModule

FEATURES, EXTRA, SCALE, ROWS = 6, 2, 0.5, 3000


def data_module(**options: Any) -> SyntheticDataModule:
    return SyntheticDataModule(
        10,
        FEATURES,
        2.0,
        norm_spread=0.5,
        magnitude_spread=0.3,
        validation_rows=ROWS,
        test_rows=ROWS,
        seed=4,
        **options,
    )


class Prior:
    """KL of j + 1 nats for latent j of every row."""

    def kl(self, posterior: Any) -> Tensor:
        return torch.arange(1.0, posterior.mean.shape[1] + 1).expand_as(posterior.mean)


class Oracle(nn.Module):
    """Knows the dictionary: its latents are the true strengths, with noise of the stated sigma in the mean.

    Its decoder rows are shorter than the features by `shrink`, so its latents are larger by as much; the last
    `EXTRA` rows point away from every feature.
    """

    def __init__(self, dictionary: Tensor, claimed: float | None, noise: float = 0.1, shrink: float = 2.0) -> None:
        super().__init__()
        away = -dictionary.mean(0).expand(EXTRA, -1)
        self.autoencoder = SimpleNamespace(W_dec=torch.cat([dictionary / shrink, away]))
        self.register_buffer("input_scale", torch.tensor(SCALE))
        self.prior = Prior()
        self.kl_weight = 1.0
        self.claimed, self.noise, self.shrink = claimed, noise, shrink

    def forward(self, codes: Tensor) -> Any:
        z = torch.cat([SCALE * self.shrink * codes, torch.zeros(len(codes), EXTRA)], 1)
        mean = z + self.noise * torch.randn_like(z)
        posterior = None if self.claimed is None else Posterior(mean, self.sigma(mean))
        return SimpleNamespace(latents=DenseLatents(mean * (z != 0)), posterior=posterior)

    def sigma(self, mean: Tensor) -> Any:
        assert self.claimed is not None
        return self.claimed


class PerLatent(Oracle):
    def sigma(self, mean: Tensor) -> Tensor:
        return torch.full((mean.shape[1],), super().sigma(mean))


class PerRow(Oracle):
    def sigma(self, mean: Tensor) -> Tensor:
        return torch.full_like(mean, super().sigma(mean))


class Ensemble(LightningModule):
    def __init__(self, members: dict[str, Oracle]) -> None:
        super().__init__()
        self._members = members

    def members(self) -> dict[str, Oracle]:
        return self._members

    def validation_step(self, batch: SyntheticBatch, batch_idx: int) -> dict[str, Any]:
        return {name: member(batch.codes) for name, member in self._members.items()}

    test_step = validation_step


def evaluated(
    members: dict[str, Any], data: Any, folder: Path, stage: str = "validate"
) -> tuple[dict[str, float], str]:
    torch.manual_seed(0)
    logger = TensorBoardLogger(folder, name="logs", version="run", default_hp_metric=False)
    trainer = Trainer(
        accelerator="cpu",
        logger=logger,
        callbacks=[DictionaryRecovery()],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    getattr(trainer, stage)(Ensemble(members), datamodule=data, verbose=False)
    logger.finalize("success")
    return {name: float(value) for name, value in trainer.callback_metrics.items()}, logger.log_dir


def test_an_oracle_recovers_all(tmp_path: Path) -> None:
    data = data_module()
    values, folder = evaluated({"": Oracle(data.dictionary, 0.1)}, data, tmp_path)
    for name in ("mmcs", "mcc", "firing_precision", "firing_recall", "firing_f1"):
        assert values.pop(f"val/{name}") == pytest.approx(1, abs=1e-6)
    assert values.pop("val/split_fraction") == 0
    assert values.pop("val/sigma_calibration") == pytest.approx(1, rel=0.03)
    assert values.pop("val/kl_matched") == pytest.approx((1 + 2 + 3 + 4 + 5 + 6) / 6)
    assert values.pop("val/kl_unmatched") == pytest.approx((7 + 8) / 2)
    assert values == {}  # no parents, so nothing of absorption
    (histogram,) = EventAccumulator(folder, {"histograms": 0}).Reload().Histograms("val/kl_per_latent")
    assert histogram.histogram_value.num == FEATURES + EXTRA
    assert histogram.histogram_value.sum == pytest.approx(36)


def test_members_are_told_apart_by_name(tmp_path: Path) -> None:
    data = data_module(hierarchies=1)
    turned = torch.cat([data.dictionary[1:], -data.dictionary[:1]])
    members = {"good": Oracle(data.dictionary, None), "bad": Oracle(turned, None)}
    values, _ = evaluated(members, data, tmp_path, "test")
    assert values["test/good/mcc"] == pytest.approx(1, abs=1e-6)
    assert values["test/bad/mcc"] < 0.95
    assert values["test/good/absorbed_fraction"] == 0
    assert not any("sigma" in name or "kl" in name for name in values)


@pytest.mark.parametrize("oracle", [Oracle, PerLatent, PerRow])
@pytest.mark.parametrize("shrink", [1.0, 5.0])
def test_half_the_sigma_is_twice_too_sure(oracle: Any, shrink: float, tmp_path: Path) -> None:
    data = data_module()
    members = {"": oracle(data.dictionary, 0.05, noise=0.1, shrink=shrink)}
    values, _ = evaluated(members, data, tmp_path)
    assert values["val/sigma_calibration"] == pytest.approx(2, rel=0.03)


def test_no_sigma_has_no_calibration(tmp_path: Path) -> None:
    data = data_module()
    values, _ = evaluated({"": Oracle(data.dictionary, 0.0)}, data, tmp_path)
    assert "val/sigma_calibration" not in values
    assert "val/kl_matched" in values


def test_two_evaluations_do_not_mix(tmp_path: Path) -> None:
    data, callback = data_module(), DictionaryRecovery()
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[callback], enable_progress_bar=False)
    for member, expected in ((Oracle(-data.dictionary, None), False), (Oracle(data.dictionary, None), True)):
        trainer.validate(Ensemble({"": member}), datamodule=data, verbose=False)
        assert bool(trainer.callback_metrics["val/mcc"] > 0.999) == expected


def test_nothing_is_done_without_a_dictionary() -> None:
    class Silent(LightningModule):
        def validation_step(self, batch: Tensor, batch_idx: int) -> dict[str, Any]:
            return {"": None}

    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[DictionaryRecovery()], enable_progress_bar=False)
    trainer.validate(Silent(), dataloaders=[torch.zeros(3, 2)], verbose=False)
    assert trainer.callback_metrics == {}


def test_a_trained_vsae_is_held_against_the_truth(tmp_path: Path) -> None:
    data = data_module(hierarchies=1, batch_size=64, noise_std=0.01)
    module = vl.VSAE(data.d_in, 9, vl.TopK(2), sigma=0.3, kl_weight=0.01, dead_after_tokens=1000, seed=0)
    trainer = Trainer(
        max_steps=40,
        accelerator="cpu",
        logger=False,
        callbacks=[DictionaryRecovery()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, datamodule=data)
    (values,) = trainer.test(module, datamodule=data, verbose=False)

    rows = list(data.test_dataloader())
    x, codes = (torch.cat([getattr(batch, name) for batch in rows]) for name in ("activations", "codes"))
    with torch.no_grad():
        scaled = module.standardize(x)
        mean = module.autoencoder.pre_acts(scaled)
        latents = module.autoencoder.encode(scaled).numpy()
    directions = data.dictionary.numpy() / np.linalg.norm(data.dictionary.numpy(), axis=1, keepdims=True)
    cosine = directions @ module.autoencoder.W_dec.detach().numpy().T
    features, own = linear_sum_assignment(-cosine)
    assert values["test/mcc"] == pytest.approx(cosine[features, own].mean(), rel=1e-5)
    assert values["test/mmcs"] == pytest.approx(cosine.max(1).mean(), rel=1e-5)
    on, fired = codes.numpy() != 0, latents[:, own] != 0
    assert values["test/firing_recall"] == pytest.approx(((on & fired).sum(0) / on.sum(0)).mean(), rel=1e-5)
    assert values["test/firing_precision"] == pytest.approx(
        ((on & fired).sum(0) / fired.sum(0).clip(1)).mean(), rel=1e-5
    )
    # Decoder rows have norm 1: a strength c appears as c * scale * ||d|| * cos.
    norms = np.linalg.norm(data.dictionary.numpy(), axis=1)
    truth = codes.numpy() * norms * float(module.input_scale) * cosine[features, own]
    counted = on & fired & (cosine[features, own] > 0.5)
    errors = (truth - mean.numpy()[:, own])[counted] / 0.3
    assert values["test/sigma_calibration"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-4)
    kl = (0.5 * (mean.square() + 0.09 - 1 - np.log(0.09))).mean(0).numpy()
    close = own[cosine[features, own] > 0.5]
    assert 0 < len(close) <= FEATURES
    assert values["test/kl_matched"] == pytest.approx(kl[close].mean(), rel=1e-4)
    assert values["test/kl_unmatched"] == pytest.approx(np.delete(kl, close).mean(), rel=1e-4)

"""Calibration on rows of training: when it happens, with which rows, and what it leaves alone."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import vsae_lightning as vl
from fixed_rows import D_IN, FixedStream, rows, trained
from vsae_lightning.batches import HeldOutBatch
from vsae_lightning.modules import calibration
from vsae_lightning.modules.members import warn_off_target

D_SAE, K = 48, 4


def sampled(seed: int = 2) -> vl.VSAE:
    """Noise so large that the sample's threshold is far from that of the mean."""
    adam = partial(torch.optim.Adam, lr=3e-3)
    return vl.VSAE(D_IN, D_SAE, vl.BatchTopK(K), sigma=1.0, kl_weight=0.01, seed=seed, optimizer=adam, aux_weight=0.0)


def threshold(module: Any) -> Tensor:
    value: Tensor = module.autoencoder.sparsifier.threshold.value
    return value.clone()


def l0(module: Any, x: Tensor) -> float:
    return float((module.autoencoder.encode(module.standardize(x)) != 0).sum(-1).float().mean())


def test_the_l0_of_the_mean_is_k_though_samples_were_trained(quiet_trainer: Callable[[int], Trainer]) -> None:
    assert l0(trained(sampled, quiet_trainer(10)), rows(8192, 7)) == pytest.approx(K, rel=0.03)


def test_the_rows_are_those_of_the_last_batches(
    quiet_trainer: Callable[[int], Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: k latents of each of the last 1024 rows exceed the threshold, no more and no fewer."""
    monkeypatch.setattr(calibration, "CALIBRATION_ROWS", 1024)
    trainer = quiet_trainer(6)
    module = trained(sampled, trainer, batch_size=512)
    stream = FixedStream(trainer, 512)
    last = torch.cat([stream.batch(step).activations for step in (4, 5)])
    scores = module.autoencoder.pre_acts(module.standardize(last))
    assert int((scores > threshold(module)).sum()) == 1024 * K


def test_a_resumed_run_asks_for_the_rows_it_has_not_seen(
    quiet_trainer: Callable[[int], Trainer], tmp_path: Path
) -> None:
    begun = quiet_trainer(5)
    trained(sampled, begun, 1024)
    begun.save_checkpoint(tmp_path / "begun.ckpt")
    trainer, module = quiet_trainer(6), sampled()
    stream = FixedStream(trainer, 1024)
    trainer.fit(module, stream, ckpt_path=tmp_path / "begun.ckpt", weights_only=True)
    assert {0, 1, 2, 3, 4} <= set(stream.asked)  # eight batches are 8192 rows; there were five
    assert threshold(module) == threshold(trained(sampled, quiet_trainer(6), 1024))


class OneBatch:
    """A held-out split."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[HeldOutBatch]:
        yield HeldOutBatch(rows(64, 8), *(torch.arange(64) for _ in range(3)), left_out=torch.empty(0, 8))


class Watch(Callback):
    """Keeps the L0 of what evaluation would see, at every validation and in every checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[float] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seen.append(l0(pl_module, rows(8192, 7)))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx in (3, 7):
            trainer.save_checkpoint(self.folder / f"{batch_idx}.ckpt")


def test_every_validation_and_every_checkpoint_is_calibrated(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    trainer = Trainer(
        max_steps=10,
        val_check_interval=5,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=[watch],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    stream = FixedStream(trainer, 1024)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(sampled(), stream, OneBatch())
    loaded = [vl.load(tmp_path / f"{step}.ckpt") for step in (3, 7)]
    watch.seen += [float((one.encode(rows(8192, 7)) != 0).sum(-1).float().mean()) for one in loaded]
    assert watch.seen == pytest.approx([K] * 4, rel=0.03)


def test_an_ensemble_calibrates_each_member_as_alone(quiet_trainer: Callable[[int], Trainer]) -> None:
    members: Any = {f"s{seed}": lambda d_in, seed=seed: sampled(seed) for seed in (2, 3)}
    together = trained(partial(vl.Ensemble, D_IN, members), quiet_trainer(6))
    for seed in (2, 3):
        alone = trained(partial(sampled, seed), quiet_trainer(6))
        assert threshold(together.members()[f"s{seed}"]) == threshold(alone)


class Waits(TorchDispatchMode):
    """Counts the numbers that the host asks of the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_calibration_costs_a_training_step_nothing(quiet_trainer: Callable[[int], Trainer]) -> None:
    """No wait for the device, and nothing computed: the threshold stays what it was until somebody looks."""
    trainer = quiet_trainer(3)
    module = trained(sampled, trainer)
    before, batch = threshold(module), FixedStream(trainer, 512).batch(9)
    module.train()
    with Waits() as waits:
        module.training_pass(batch)
    assert waits.count == 0
    assert threshold(module) == before


@pytest.mark.parametrize(("found", "warned"), [(31.0, False), (33.5, False), (30.0, True), (34.0, True)])
def test_an_l0_off_its_target_is_warned_of_in_one_line(found: float, warned: bool) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn_off_target("arm", found, 32)
    messages = [str(warning.message) for warning in said]
    assert len(messages) == warned
    assert all(
        message.startswith(f"arm: The held-out L0 is {found:.1f}") and "\n" not in message for message in messages
    )

"""Callbacks on a real, tiny training: what they log is recomputed from what was served."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import vsae_lightning as vl
from vsae_lightning.batches import ActivationBatch
from vsae_lightning.callbacks import DeadFeatures, LastCheckpoint, Sparsity, Throughput

D_IN, D_SAE, BATCH, STEPS = 6, 300, 3, 9


class Rows:
    def __iter__(self) -> Iterator[ActivationBatch]:
        generator = torch.Generator().manual_seed(0)
        for step in range(STEPS):
            yield ActivationBatch(torch.randn(BATCH, D_IN, generator=generator), step, (0,), step * BATCH)


class Watch(Callback):
    """Keeps the latents of every step, taken before the weights move."""

    def __init__(self) -> None:
        self.latents: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, vl.SAE)
        with torch.no_grad():
            self.latents.append(pl_module.autoencoder.encode(batch.activations))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[EventAccumulator, list[torch.Tensor], Path]:
    folder = tmp_path_factory.mktemp("run")
    watch = Watch()
    module = vl.SAE(
        D_IN, D_SAE, vl.ReLU(), sparsity_weight=2.0, bias_init="zero", optimizer=partial(torch.optim.Adam, lr=0.03)
    )
    callbacks = [watch, DeadFeatures(window_tokens=2 * BATCH), Sparsity(4), Throughput(3), LastCheckpoint(4)]
    logger = TensorBoardLogger(folder, name="logs", version="run", default_hp_metric=False)
    trainer = Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        logger=logger,
        callbacks=callbacks,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, Rows())
    return EventAccumulator(logger.log_dir, {"histograms": 0}).Reload(), watch.latents, Path(logger.log_dir)


def logged(events: EventAccumulator, tag: str) -> list[float]:
    return [event.value for event in events.Scalars(tag)]


def test_l0_is_mean_and_spread_over_tokens(fitted: Any) -> None:
    events, latents, _ = fitted
    active = [(f != 0).sum(1).double() for f in latents]
    assert logged(events, "train/l0") == pytest.approx([a.mean().item() for a in active], rel=1e-5)
    assert logged(events, "train/l0_std") == pytest.approx([a.std(correction=0).item() for a in active], rel=1e-4)


def test_dead_fraction_counts_silence_over_the_window(fitted: Any) -> None:
    events, latents, _ = fitted
    fired = torch.stack([(f != 0).any(0) for f in latents])
    expected = []
    for step in range(1, STEPS):  # two batches are the window; before, nothing is known, and nothing logged
        recent = fired[step - 1 : step + 1]
        expected.append((~recent.any(0)).double().mean().item())
    assert logged(events, "train/dead_fraction") == pytest.approx(expected)
    assert expected[-1] > 0


def test_density_histogram_holds_the_frequencies(fitted: Any) -> None:
    events, latents, _ = fitted
    histograms = events.Histograms("train/log10_density")
    assert [h.step for h in histograms] == [3, 7]  # as the scalars of the fourth and the eighth step
    counts = sum((f != 0).sum(0) for f in latents[4:8])
    density = (counts.double() / (4 * BATCH)).clamp_min(0.1 / (4 * BATCH))
    value = histograms[1].histogram_value
    assert value.num == D_SAE
    assert value.sum == pytest.approx(density.log10().sum().item(), rel=1e-5)
    assert (value.min, value.max) == pytest.approx((density.log10().min().item(), density.log10().max().item()))


def test_throughput_is_logged_at_its_interval(fitted: Any) -> None:
    events, _, _ = fitted
    values = {event.step: event.value for event in events.Scalars("train/tokens_per_second")}
    assert min(values) == 2
    assert values[2] == values[3] == values[4] != values[5] == values[6] == values[7] != values[8]
    assert min(values.values()) > 0


def test_last_checkpoint_is_the_end_of_the_run(fitted: Any) -> None:
    *_, folder = fitted
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["last.ckpt"]
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == STEPS


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DeadFeatures(0), "window_tokens is 0"),
        (lambda: Sparsity(0), "histogram_every_n_steps is 0"),
        (lambda: Throughput(0), "throughput.every_n_steps is 0"),
        (lambda: LastCheckpoint(0), "checkpoint.every_n_steps is 0"),
    ],
)
def test_bad_intervals_are_refused(build: Any, message: str) -> None:
    with pytest.raises(vl.InputError, match=message):
        build()

"""The rows follow the law they are said to follow, and do not depend on who draws them."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from known_dictionary import STRUCTURED
from vsae_lightning.batches import ActivationBatch, SyntheticBatch
from vsae_lightning.data.ground_truth import KnownDictionary
from vsae_lightning.data.synthetic import HeldOutRows, SyntheticDataModule, SyntheticStream
from vsae_lightning.errors import InputError

SMALL: dict[str, Any] = {"d_in": 8, "num_features": 12, "mean_active": 3.0, "batch_size": 32, "lanes": 4, "seed": 1}


# ------------------------------------------------------------------ statistics


def test_moments_by_hand() -> None:
    # Two independent features that fire in half of the rows with strengths uniform in 1 +- 0.6: E[c^2] = 1.12.
    data = SyntheticDataModule(3, 2, 1.0, magnitude_spread=0.6, noise_std=0.2, center=True, seed=3)
    a, b = data.dictionary.double()
    mean, scale, _ = data.input_statistics()
    energy = 0.5 * 1.12 * 2 + 2 * 0.25 * float(a @ b) + 3 * 0.04
    torch.testing.assert_close(mean, (0.5 * (a + b)).float())
    assert float(scale) == pytest.approx((3 / (energy - float((0.5 * (a + b)).square().sum()))) ** 0.5, rel=1e-6)


@pytest.mark.parametrize(("scale_to", "target"), [("d_in", 16.0), ("one", 1.0)])
@pytest.mark.parametrize("center", [False, True])
def test_scaled_rows_have_the_squared_norm_asked_for(
    drawn: tuple[Tensor, Tensor], scale_to: Any, target: float, center: bool
) -> None:
    data = SyntheticDataModule(**STRUCTURED, scale_to=scale_to, center=center)
    mean, scale, energy = data.input_statistics()
    scaled = scale * (drawn[0] - mean)
    assert float(scaled.square().sum(1).mean()) == pytest.approx(target, rel=0.01)
    assert energy == target
    assert bool(mean.any()) == center


# ------------------------------------------------------------ who draws what


def stream(truth: KnownDictionary, rank: int = 0, world_size: int = 1, seed: int = 5) -> SyntheticStream:
    return SyntheticStream(truth, 64, 4, seed, "cpu", rank, world_size)


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_rows_of_a_step_do_not_depend_on_the_ranks(truth: KnownDictionary, world_size: int) -> None:
    for step in (0, 7):
        whole = stream(truth).batch(step)
        assert whole.lanes == (0, 1, 2, 3)
        lanes = whole.activations.view(4, 16, 16)
        for rank in range(world_size):
            part = stream(truth, rank, world_size).batch(step)
            assert part.step == step
            assert part.lanes == tuple(range(rank, 4, world_size))
            assert torch.equal(part.activations, lanes[list(part.lanes)].flatten(0, 1))


def test_seed_step_and_lane_each_change_the_rows(truth: KnownDictionary) -> None:
    first = stream(truth).batch(3)
    assert torch.equal(first.activations, stream(truth).batch(3).activations)
    assert not torch.isin(stream(truth).batch(4).activations, first.activations).any()
    assert not torch.isin(stream(truth, seed=6).batch(3).activations, first.activations).any()
    assert len(first.activations.unique()) == 64 * 16


def test_an_iteration_begins_at_the_position(truth: KnownDictionary) -> None:
    positions = iter([5, 0])
    source = SyntheticStream(truth, 64, 4, 5, position=lambda: next(positions))
    assert next(iter(source)).step == 5
    assert torch.equal(next(iter(source)).activations, source.batch(0).activations)


@pytest.mark.parametrize("rows", [10, 4096, 5001])
def test_held_out_rows_are_shared_in_equal_numbers_of_chunks(truth: KnownDictionary, rows: int) -> None:
    def chunks(rank: int, world_size: int) -> list[SyntheticBatch]:
        held_out = HeldOutRows(truth, "synthetic-test", rows, 4, 5, "cpu", rank, world_size)
        found = list(held_out)
        assert len(found) == len(held_out)
        assert all(0 < len(batch.codes) <= 1024 for batch in found)
        return found

    whole = chunks(0, 1)
    assert sum(len(batch.codes) for batch in whole) == rows
    for world_size in (2, 4):
        parts = [chunks(rank, world_size) for rank in range(world_size)]
        together = [batch for turn in zip(*parts, strict=True) for batch in turn]
        for one, other in zip(whole, together, strict=True):
            assert torch.equal(one.activations, other.activations)
            assert torch.equal(one.codes, other.codes)


def test_the_seed_alone_decides_the_dictionary() -> None:
    one, same, other = (SyntheticDataModule(**(STRUCTURED | {"seed": seed})) for seed in (5, 5, 6))
    assert torch.equal(one.dictionary, same.dictionary)
    assert torch.equal(one.parents, same.parents)
    assert not torch.equal(one.dictionary, other.dictionary)
    assert not torch.equal(one.parents, other.parents)


def test_the_seed_is_its_own_or_that_of_seed_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "77")
    assert SyntheticDataModule(8, 12, 3.0).seed == 77
    assert SyntheticDataModule(8, 12, 3.0, seed=0).seed == 0


# ----------------------------------------------------------- under a trainer


class Recorder(LightningModule):
    """Learns nothing; keeps all that the data module hands it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.batches: list[ActivationBatch] = []
        self.held_out: list[SyntheticBatch] = []

    def training_step(self, batch: ActivationBatch, batch_idx: int) -> Tensor:
        self.batches.append(batch)
        return self.weight.square()

    def validation_step(self, batch: SyntheticBatch, batch_idx: int) -> None:
        self.held_out.append(batch)

    def test_step(self, batch: SyntheticBatch, batch_idx: int) -> None:
        self.held_out.append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Trainer]:
    def make(max_steps: int = 3) -> Trainer:
        return Trainer(
            max_steps=max_steps,
            num_sanity_val_steps=0,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )

    return make


def test_resuming_goes_on_with_the_next_step(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    whole, first, resumed = Recorder(), Recorder(), Recorder()
    trainer(6).fit(whole, datamodule=SyntheticDataModule(**SMALL))
    interrupted = trainer(4)
    interrupted.fit(first, datamodule=SyntheticDataModule(**SMALL))
    interrupted.save_checkpoint(tmp_path / "run.ckpt")
    assert torch.load(tmp_path / "run.ckpt", weights_only=True)["SyntheticDataModule"]["steps"] == 4
    trainer(6).fit(resumed, datamodule=SyntheticDataModule(**SMALL), ckpt_path=tmp_path / "run.ckpt")
    assert [batch.step for batch in whole.batches] == [0, 1, 2, 3, 4, 5]
    assert [batch.step for batch in resumed.batches] == [4, 5]
    for one, other in zip(whole.batches, first.batches + resumed.batches, strict=True):
        assert torch.equal(one.activations, other.activations)


def test_a_checkpoint_from_before_there_were_clusters_goes_on(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    fit, path = trainer(), tmp_path / "run.ckpt"
    fit.fit(Recorder(), datamodule=SyntheticDataModule(**SMALL))
    fit.save_checkpoint(path)
    content = torch.load(path, weights_only=True)
    for name in ("clusters", "cluster_spread"):
        del content["SyntheticDataModule"]["layout"][name]
    torch.save(content, path)
    resumed = Recorder()
    trainer(4).fit(resumed, datamodule=SyntheticDataModule(**SMALL), ckpt_path=path)
    assert [batch.step for batch in resumed.batches] == [3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 2}, "data.seed is 2, but the run of the checkpoint has 1"),
        ({"batch_size": 64}, "data.batch_size is 64, but the run of the checkpoint has 32"),
        ({"noise_std": 0.5}, "data.noise_std is 0.5, but the run of the checkpoint has 0.0"),
    ],
)
def test_going_on_with_other_rows_is_refused(
    trainer: Callable[..., Trainer], tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    fit = trainer()
    fit.fit(Recorder(), datamodule=SyntheticDataModule(**SMALL))
    fit.save_checkpoint(tmp_path / "run.ckpt")
    with pytest.raises(InputError, match=words):
        trainer(6).fit(Recorder(), datamodule=SyntheticDataModule(**(SMALL | change)), ckpt_path=tmp_path / "run.ckpt")


def test_held_out_splits_are_apart(trainer: Callable[..., Trainer]) -> None:
    data = SyntheticDataModule(**SMALL, magnitude_spread=0.5, validation_rows=40, test_rows=100)
    validated, tested = Recorder(), Recorder()
    trainer().validate(validated, datamodule=data, verbose=False)
    trainer().test(tested, datamodule=data, verbose=False)
    rows = [torch.cat([batch.activations for batch in recorder.held_out]) for recorder in (validated, tested)]
    assert [len(part) for part in rows] == [40, 100]
    occupied = [part[part.norm(dim=1) > 0] for part in rows]  # a row without features is 0 in any split
    assert not torch.isin(*occupied).any()
    for batch in validated.held_out:
        torch.testing.assert_close(batch.activations, batch.codes @ data.dictionary)


def test_prediction_serves_the_rows_of_validation() -> None:
    data = SyntheticDataModule(**SMALL)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    vars(data)["trainer"] = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1)
    for predicted, held_out in zip(data.predict_dataloader(), data.val_dataloader(), strict=True):
        assert torch.equal(predicted.activations, held_out.activations)
        assert torch.equal(predicted.codes, held_out.codes)


def test_a_fit_without_end_is_refused(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(InputError, match=r"trainer.max_steps is not set"):
        trainer(-1).fit(Recorder(), datamodule=SyntheticDataModule(**SMALL))


# -------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"d_in": 0}, "d_in is 0; it must be at least 1"),
        ({"mean_active": 6.5}, r"mean_active is 6.5; it must be positive, and at most num_features / 2 = 6\."),
        ({"mean_active": 0.0}, "mean_active is 0.0"),
        ({"zipf_exponent": -1.0}, "zipf_exponent is -1.0; it must be at least 0"),
        ({"magnitude_spread": 1.0}, "magnitude_spread is 1.0; it must be at least 0 and less than 1"),
        ({"pair_correlation": 1.5}, "pair_correlation is 1.5; it must be between 0 and 1"),
        ({"noise_std": float("nan")}, "noise_std is nan"),
        ({"clusters": -1}, "clusters is -1; it must be 0 to num_features / 2 = 6"),
        ({"clusters": 7}, "clusters is 7; it must be 0 to num_features / 2 = 6"),
        ({"clusters": 2, "cluster_spread": 0.0}, "cluster_spread is 0.0; it must be positive and finite"),
        ({"exclusive_set_size": 1}, "exclusive_set_size is 1; it must be at least 2"),
        ({"correlated_pairs": 2, "hierarchies": 2, "exclusive_sets": 2}, "num_features is 12, but .* take 14 features"),
        (
            {"zipf_exponent": 1.0, "correlated_pairs": 5, "pair_correlation": 0.99},
            "correlated_pairs is 5, but features of frequencies near enough for a pair_correlation of 0.99 make 1;",
        ),
        ({"exclusive_sets": 1, "exclusive_set_size": 5}, r"exclusive_set_size is 5, but .* sum to 1.25"),
        ({"batch_size": 30}, "batch_size is 30; it must be a multiple of lanes, 4"),
        ({"lanes": 0}, "lanes is 0; it must be at least 1"),
        ({"test_rows": 3}, "test_rows is 3; it must be at least one for each of the 4 lanes"),
    ],
)
def test_options_that_do_not_fit_are_errors(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SyntheticDataModule(**(SMALL | change))


def test_lanes_that_cannot_be_shared_out_are_an_error() -> None:
    data = SyntheticDataModule(**SMALL)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    vars(data)["trainer"] = SimpleNamespace(strategy=strategy, global_rank=0, world_size=3)
    for loader in (data.train_dataloader, data.val_dataloader, data.test_dataloader):
        with pytest.raises(InputError, match="lanes is 4; it must be a multiple of the 3 ranks"):
            loader()

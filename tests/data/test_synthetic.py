"""The rows follow the law they are said to follow, and do not depend on who draws them."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from vsae_lightning.batches import ActivationBatch, SyntheticBatch
from vsae_lightning.data.ground_truth import KnownDictionary, capped_zipf
from vsae_lightning.data.synthetic import HeldOutRows, SyntheticDataModule, SyntheticStream
from vsae_lightning.errors import InputError

ROWS = 200_000
STRUCTURED: dict[str, Any] = {
    "d_in": 16,
    "num_features": 40,
    "mean_active": 6.0,
    "zipf_exponent": 0.7,
    "norm_spread": 0.3,
    "magnitude_spread": 0.4,
    "correlated_pairs": 4,
    "pair_correlation": 0.6,
    "hierarchies": 3,
    "children_per_parent": 2,
    "exclusive_sets": 2,
    "exclusive_set_size": 4,
    "noise_std": 0.1,
    "seed": 5,
}
SMALL: dict[str, Any] = {"d_in": 8, "num_features": 12, "mean_active": 3.0, "batch_size": 32, "lanes": 4, "seed": 1}


@pytest.fixture(scope="module")
def truth() -> KnownDictionary:
    return SyntheticDataModule(**STRUCTURED).truth


@pytest.fixture(scope="module")
def drawn(truth: KnownDictionary) -> tuple[Tensor, Tensor]:
    return truth.draw(ROWS, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def on(drawn: tuple[Tensor, Tensor]) -> Tensor:
    return (drawn[1] != 0).double()


# ------------------------------------------------------------------- the law


def test_zipf_by_hand() -> None:
    # Uncapped, c = 1.2 / (25 / 12) is above the cap of 0.5; with the first at the cap c = 0.7 / (13 / 12).
    expected = [0.5, 0.7 * 12 / 13 / 2, 0.7 * 12 / 13 / 3, 0.7 * 12 / 13 / 4]
    assert capped_zipf(4, 1.2, 1.0).tolist() == pytest.approx(expected, rel=1e-12)
    assert capped_zipf(5, 2.0, 0.0).tolist() == [0.4] * 5
    assert capped_zipf(6, 3.0, 2.0).tolist() == pytest.approx([0.5] * 6)


def test_zipf_sums_to_what_is_asked_and_falls_as_a_power_below_the_cap() -> None:
    p = capped_zipf(1000, 20.0, 1.3)
    assert float(p.sum()) == pytest.approx(20, rel=1e-12)
    free = p < 0.5
    assert 0 < int((~free).sum()) < 30
    ranks = torch.arange(1, 1001, dtype=torch.float64)
    slopes = torch.diff(p[free].log()) / torch.diff(ranks[free].log())
    torch.testing.assert_close(slopes, torch.full_like(slopes, -1.3))


def test_no_feature_is_in_two_structures(truth: KnownDictionary) -> None:
    members = torch.cat([part.flatten() for part in (truth.pairs, truth.families, truth.sets)])
    assert (truth.pairs.shape, truth.families.shape, truth.sets.shape) == ((4, 2), (3, 3), (2, 4))
    assert len(members.unique()) == len(members) == 8 + 9 + 8
    for group in (*truth.families, *truth.sets):  # parents are the most frequent of their families
        assert (truth.frequencies[group].diff() <= 0).all()


def test_every_feature_fires_as_often_as_its_rank_says(truth: KnownDictionary, on: Tensor) -> None:
    p = capped_zipf(40, 6.0, 0.7)
    deviation = (on.mean(0) - p) / (p * (1 - p) / ROWS).sqrt()
    for members in (truth.pairs, truth.families, truth.sets, torch.arange(40)):
        assert deviation[members].abs().max() < 4
    assert deviation.square().mean().sqrt() < 1.4  # 1, were all 40 independent


def test_pairs_have_the_phi_coefficient_asked_for(truth: KnownDictionary, on: Tensor) -> None:
    phi = np.corrcoef(on.numpy(), rowvar=False)
    for first, second in truth.pairs.tolist():
        assert phi[first, second] == pytest.approx(0.6, abs=0.015)
        p, q, both = truth.frequencies[first], truth.frequencies[second], truth.co_firing()[first, second]
        assert float((both - p * q) / (p * (1 - p) * q * (1 - q)).sqrt()) == pytest.approx(0.6, rel=1e-12)


def test_a_pair_of_correlation_1_is_one_event() -> None:
    truth = SyntheticDataModule(8, 10, 2.0, correlated_pairs=5, pair_correlation=1.0, seed=0).truth
    _, codes = truth.draw(5000, torch.Generator().manual_seed(0))
    first, second = (codes != 0)[:, truth.pairs.T].unbind(1)
    assert torch.equal(first, second)
    assert first.any()


def test_children_fire_only_with_their_parents(truth: KnownDictionary, on: Tensor) -> None:
    parents = truth.parents
    children = (parents >= 0).nonzero().flatten()
    assert sorted(children.tolist()) == sorted(truth.families[:, 1:].flatten().tolist())
    for child in children.tolist():
        parent = parents[child]
        assert (on[:, child] * (1 - on[:, parent])).sum() == 0
        given = on[:, child][on[:, parent] == 1]
        expected = float(truth.frequencies[child] / truth.frequencies[parent])
        assert float(given.mean()) == pytest.approx(expected, abs=4 * (0.25 / len(given)) ** 0.5)


def test_at_most_one_of_a_set_fires(truth: KnownDictionary, on: Tensor) -> None:
    for members in truth.sets:
        assert on[:, members].sum(1).max() == 1


def test_co_firing_is_that_of_the_rows(truth: KnownDictionary, on: Tensor) -> None:
    joint = truth.co_firing()
    error = (joint * (1 - joint) / ROWS).sqrt().clamp_min(1e-9)
    assert (((on.T @ on) / ROWS - joint) / error).abs().max() < 5  # of 820 different entries
    assert torch.equal(joint, joint.T)


def test_rows_are_codes_times_dictionary_and_noise(truth: KnownDictionary, drawn: tuple[Tensor, Tensor]) -> None:
    activations, codes = drawn
    noise = activations - codes @ truth.dictionary
    assert float(noise.std()) == pytest.approx(0.1, rel=0.01)
    assert (torch.cov(noise.T) - 0.01 * torch.eye(16)).abs().max() < 5e-4


def test_strengths_are_uniform_around_1(drawn: tuple[Tensor, Tensor]) -> None:
    strengths = drawn[1][drawn[1] != 0].double()
    assert strengths.min() >= 0.6 - 1e-6
    assert strengths.max() <= 1.4 + 1e-6
    assert float(strengths.mean()) == pytest.approx(1, abs=1e-3)
    assert float(strengths.var()) == pytest.approx(0.8**2 / 12, rel=0.01)


def test_norms_are_log_normal() -> None:
    many = SyntheticDataModule(8, 4000, 5.0, norm_spread=0.5, seed=0).dictionary.norm(dim=-1).log()
    assert float(many.mean()) == pytest.approx(0, abs=0.04)
    assert float(many.std()) == pytest.approx(0.5, rel=0.05)
    unit = SyntheticDataModule(8, 50, 5.0, seed=0).dictionary.norm(dim=-1)
    torch.testing.assert_close(unit, torch.ones(50))


def test_clusters_have_the_cosines_asked_for() -> None:
    data = SyntheticDataModule(512, 120, 5.0, clusters=8, cluster_spread=0.5, seed=0)
    cluster, unit = data.truth.clusters, torch.nn.functional.normalize(data.dictionary, dim=-1)
    assert torch.bincount(cluster).tolist() == [15] * 8
    cosine, same = unit @ unit.T, cluster[:, None] == cluster
    others = ~torch.eye(120, dtype=torch.bool)
    assert float(cosine[same & others].mean()) == pytest.approx(1 / (1 + 0.5**2), abs=0.01)
    assert float(cosine[~same].mean()) == pytest.approx(0, abs=0.02)


def test_clusters_change_directions_alone() -> None:
    plain, clustered = (SyntheticDataModule(**(STRUCTURED | {"clusters": count})).truth for count in (0, 3))
    assert plain.clusters.tolist() == [-1] * 40
    assert sorted(torch.bincount(clustered.clusters).tolist()) == [13, 13, 14]
    torch.testing.assert_close(clustered.dictionary.norm(dim=-1), plain.dictionary.norm(dim=-1))
    assert not torch.allclose(clustered.dictionary, plain.dictionary)
    assert torch.equal(clustered.families, plain.families)
    assert torch.equal(clustered.co_firing(), plain.co_firing())


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

"""Latents sharded over two processes train as they do on one, and their checkpoints are each other's."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import vsae_lightning as vl
from sharded_runs import ARMS, LONG, STEPS, STOP, fit
from vsae_lightning.autoencoders.storage import read_checkpoint
from vsae_lightning.cli import main


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Of every arm, unsharded: losses and metrics, and the checkpoint."""
    folder = tmp_path_factory.mktemp("alone")
    runs = {name: fit(name, folder / f"{name}.ckpt") for name in ARMS}
    return {name: (run, read_checkpoint(folder / f"{name}.ckpt")) for name, run in runs.items()}


def results(sharded: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((sharded / "results.json").read_text())
    return content


def assert_close(left: Any, right: Any, atol: float) -> None:
    """Equal in structure, types and shapes; numbers within `atol`, and exactly where it is 0."""
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        torch.testing.assert_close(left, right, rtol=0, atol=atol)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_close(left[key], right[key], atol)
    elif isinstance(left, (list, tuple)):
        for one, other in zip(left, right, strict=True):
            assert_close(one, other, atol)
    else:
        assert left == right


STATE = ("state_dict", "optimizer_states", "tokens_seen", "global_step", "autoencoder", "SyntheticDataModule")


@pytest.mark.parametrize("name", ARMS)
def test_sharded_is_the_same_run(name: str, alone: Any, sharded: Path) -> None:
    run, expected = alone[name]
    two = results(sharded)[name]
    assert len(two["losses"]) == len(run["losses"]) == (STEPS if name in LONG else 12)
    assert two["losses"] == pytest.approx(run["losses"], rel=1e-6)
    consolidated = read_checkpoint(sharded / name / "whole.ckpt")
    assert consolidated.keys() == expected.keys()
    for key in STATE:
        assert_close(consolidated[key], expected[key], atol=1e-6)
    for usage in ("usage.tokens_since_fired", "usage.first_fired"):
        assert torch.equal(consolidated["state_dict"][usage], expected["state_dict"][usage])


@pytest.mark.parametrize("name", ARMS)
def test_held_out_metrics_are_the_same(name: str, alone: Any, sharded: Path) -> None:
    """The ranks have different numbers of rows; what is found of the dictionary is not measured when sharded."""
    expected = alone[name][0]["metrics"]
    two = results(sharded)[name]["metrics"]
    assert {f"val/{key}" for key in ("loss", "explained_variance", "cosine", "l0", "dead_fraction")} <= two.keys()
    assert two == pytest.approx({key: expected[key] for key in two}, rel=2e-6, abs=1e-6)


def test_auxk_has_fired(alone: Any) -> None:
    """After an annealed k many latents are silent; the loss of the last steps has their part in it."""
    run, checkpoint = alone["auxk"]
    assert run["metrics"]["train/aux"] > 0
    dead = checkpoint["state_dict"]["usage.tokens_since_fired"] >= 256
    assert 8 < dead.sum() < 96


@pytest.mark.parametrize("name", ["auxk", "learned"])
def test_a_resumed_run_ends_bit_equal(name: str, sharded: Path) -> None:
    whole = read_checkpoint(sharded / name / "whole.ckpt")
    resumed = read_checkpoint(sharded / name / "resumed" / "last.ckpt")
    for key in STATE:
        assert_close(resumed[key], whole[key], atol=0)


@pytest.mark.parametrize("name", ["auxk", "learned"])
def test_two_ranks_go_on_as_one(name: str, alone: Any, sharded: Path, tmp_path: Path) -> None:
    run, expected = alone[name]
    one = fit(name, tmp_path / "one.ckpt", resume=sharded / name / "begun" / "last.ckpt")
    assert one["losses"] == pytest.approx(run["losses"][STOP:], rel=1e-6)
    for key in STATE:
        assert_close(read_checkpoint(tmp_path / "one.ckpt")[key], expected[key], atol=1e-6)


def test_one_rank_goes_on_as_two(alone: Any, sharded: Path) -> None:
    run, expected = alone["learned"]
    assert results(sharded)["from_alone"]["losses"] == pytest.approx(run["losses"][STOP:], rel=1e-6)
    two = read_checkpoint(sharded / "learned" / "from_alone" / "last.ckpt")
    for key in STATE:
        assert_close(two[key], expected[key], atol=1e-6)


def test_a_torn_checkpoint_is_refused_by_all_ranks(sharded: Path) -> None:
    for rank in (0, 1):
        assert "shard-01-of-02.safetensors: not what was written" in (sharded / f"refusal-{rank}.txt").read_text()


@pytest.fixture(scope="module")
def sharded_run(sharded: Path) -> Path:
    """The run of the shared config, from the command line, with the layer that shards it."""
    return sharded / "lightning_logs" / "version_0"


def test_the_command_line_shards_a_run(sharded_run: Path, run: Path) -> None:
    """Live activations; three checkpoints, of which the last is left; metrics of sequences shared out unequally."""
    assert {path.name for path in (sharded_run / "checkpoints").iterdir()} == {"last.ckpt", "sharded-12"}
    two, one = (read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (sharded_run, run))
    for key in ("state_dict", "optimizer_states", "tokens_seen"):
        assert_close(two[key], one[key], atol=1e-6)
    metrics, expected = (json.loads((folder / "fit.json").read_text()) for folder in (sharded_run, run))
    timed = ("train/tokens_per_second", "train/language_model_share")
    histogram = "val/log10_density"
    names = [name for name in expected if name.startswith(("train/", "val/")) and name not in (*timed, histogram)]
    assert metrics[histogram] == expected[histogram]
    assert {name: metrics[name] for name in names} == pytest.approx({name: expected[name] for name in names}, rel=5e-6)


def test_load_consolidates(sharded_run: Path, run: Path) -> None:
    x = torch.randn(20, 32, generator=torch.Generator().manual_seed(0))
    expected = vl.load(run)
    for path in (sharded_run, sharded_run / "checkpoints" / "last.ckpt", sharded_run / "checkpoints" / "sharded-12"):
        loaded = vl.load(path)
        torch.testing.assert_close(loaded.encode(x), expected.encode(x), rtol=0, atol=1e-5)
        torch.testing.assert_close(loaded(x), expected(x), rtol=0, atol=1e-5)


def test_other_commands_take_a_sharded_run(
    sharded_run: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluated, and gone on with, unsharded: its checkpoint is an ordinary file then."""
    monkeypatch.chdir(tmp_path)
    run = Path(shutil.copytree(sharded_run, tmp_path / "run", symlinks=True))
    main(["validate", str(run), "--trainer.strategy", "auto", "--trainer.devices", "1"])
    validated, fitted = (json.loads((run / name).read_text()) for name in ("validate.json", "fit.json"))
    for name in ("explained_variance", "cosine", "l0", "dead_fraction", "reconstruction", "kl", "loss"):
        assert validated[f"val/{name}"] == pytest.approx(fitted[f"val/{name}"], rel=5e-6)
    checkpoint = run / "checkpoints" / "last.ckpt"
    main(["fit", "--config", str(config), "--ckpt_path", str(checkpoint), "--trainer.max_steps", "14"])
    assert not checkpoint.is_symlink()
    assert read_checkpoint(checkpoint)["global_step"] == 14

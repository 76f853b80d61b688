"""What a run's folder says of its autoencoder: the numbers of the member that is asked for, of this checkpoint."""

import json
from pathlib import Path

import pytest
import torch

from vsae_lightning.origin import Origin, origin_of_run

CONFIG = """
seed_everything: 3
data:
  class_path: %s
  init_args: {model_name: bundled, hook_name: blocks.1.hook_resid_post}
"""


def folder_of(tmp_path: Path, data: str = "ActivationDataModule") -> Path:
    (tmp_path / "config.yaml").write_text(CONFIG % data)
    fit = {"val/a/l0": 1.0, "val/b/l0": 2.0, "val/epoch": 0.0, "train/a/loss": 3.0, "checkpoint": "x/last.ckpt"}
    test = {"test/a/l0": 4.0, "test/b/l0": 5.0, "checkpoint": "x/last.ckpt", "seed": 3}
    (tmp_path / "fit.json").write_text(json.dumps(fit))
    (tmp_path / "test.json").write_text(json.dumps(test))
    return tmp_path


def test_the_metrics_are_those_of_the_member(tmp_path: Path) -> None:
    run = folder_of(tmp_path)
    assert origin_of_run(run, "a").metrics == {"val/l0": 1.0, "train/loss": 3.0, "test/l0": 4.0}
    assert origin_of_run(run, "b").metrics == {"val/l0": 2.0, "test/l0": 5.0}


def test_another_checkpoint_has_no_metrics_of_the_last(tmp_path: Path) -> None:
    run = folder_of(tmp_path)
    assert origin_of_run(run / "checkpoints" / "last.ckpt", "b").metrics == {"val/l0": 2.0, "test/l0": 5.0}
    assert origin_of_run(run / "checkpoints" / "other.ckpt", "b").metrics == {}


@pytest.mark.parametrize("is_ensemble", [False, True])
def test_metrics_from_before_the_run_went_on_are_not_of_its_checkpoint(tmp_path: Path, is_ensemble: bool) -> None:
    run = folder_of(tmp_path)
    for file, tokens in (("fit.json", 200), ("test.json", 100)):
        content = json.loads((run / file).read_text())
        (run / file).write_text(json.dumps({**content, "train/tokens": tokens}))
    described = {"hyper_parameters": {"_class_path": "x"}, "state_dict": {}, "global_step": 2}
    seen = {"tokens_seen": 200, "autoencoder": {}}
    (run / "checkpoints").mkdir()
    torch.save(described | ({"members": {"a": seen}} if is_ensemble else seen), run / "checkpoints" / "last.ckpt")
    assert origin_of_run(run, "a").metrics == {"val/l0": 1.0, "train/loss": 3.0}


def test_provenance_is_that_of_live_activations_alone(tmp_path: Path) -> None:
    origin = origin_of_run(folder_of(tmp_path, "SyntheticDataModule"))
    assert origin.provenance == {}
    assert origin.training["seed_everything"] == 3


def test_a_record_that_is_none_says_nothing() -> None:
    assert Origin.of_record([1]) == Origin({}, {}, {}, {})
    assert Origin.of_record({"provenance": "x", "metrics": {"a": 1}, "more": 2}) == Origin({}, {}, {"a": 1}, {})

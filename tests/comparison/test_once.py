"""n is the number of seeds: a copy, a re-run and an export of one are that seed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from run_folders import model, write_run
from vsae_lightning.cli import main
from vsae_lightning.comparison.gather import gather
from vsae_lightning.comparison.groups import Group, group


def groups(*runs: Path) -> list[Group]:
    return group(gather([*map(str, runs)]))


@pytest.fixture(scope="module")
def tested(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared run in a folder of its own, tested."""
    folder = tmp_path_factory.mktemp("tested") / "tested"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("test.json", "validate.json", "evaluation"))
    main(["test", str(folder)])
    return folder


def changed(run: Path, folder: Path, **options: Any) -> Path:
    """A copy whose configuration says other seeds."""
    shutil.copytree(run, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | options))
    return folder


def test_a_copy_and_an_export_are_the_same_seed(tested: Path, tmp_path: Path) -> None:
    shutil.copytree(tested, tmp_path / "copy")
    main(["export", str(tested), str(tmp_path / "export"), "--format", "safetensors"])
    (one,) = groups(tested, tmp_path / "copy", tmp_path / "export")
    assert one.members == ("tested",)
    assert one.values["explained_variance"].std is None
    assert [note.partition(" and ")[0] for note in one.notes] == ["copy", "export"]


def test_the_same_weights_are_one_seed_whatever_the_config_says(tested: Path, tmp_path: Path) -> None:
    other = changed(tested, tmp_path / "other", seed_everything=77)
    (one,) = groups(tested, other)
    assert one.members == ("tested",)
    assert "other and tested are one seed (they share weights): counted once" in one.notes


def test_what_the_first_lacks_is_taken_from_its_copy(tmp_path: Path) -> None:
    one = write_run(tmp_path / "a", model(), 5, fit={"val/l0": 8.0})
    two = write_run(tmp_path / "b", model(), 5, {"test/l0": 7.9}, {"val/l0": 9.0})
    (both,) = groups(one, two)
    assert both.members == ("a",)
    assert (both.values["l0"].values, both.values["l0"].source) == ((7.9,), "test")


def test_other_seeds_are_other_seeds(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(seed), model(), seed, {"test/l0": 8.0 + seed}) for seed in range(3)]
    (three,) = groups(*runs)
    assert three.members == ("0", "1", "2")
    assert three.notes == ()


def test_an_unknown_seed_is_not_taken_for_another(tmp_path: Path) -> None:
    """Without `seed_everything` the order of the data is not known: only equal weights make two runs one."""
    runs = [write_run(tmp_path / name, model(), test={"test/l0": 8.0}) for name in "ab"]
    for run in runs:
        config = yaml.safe_load((run / "config.yaml").read_text())
        (run / "config.yaml").write_text(yaml.safe_dump(config | {"seed_everything": None}))
    (two,) = groups(*runs)
    assert two.members == ("a", "b")


def test_a_validation_of_an_earlier_step_is_warned_of(run: Path, tmp_path: Path) -> None:
    """The events hold the validation at 12 steps of 64 tokens."""
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("test.json", "validate.json", "evaluation"))
    (same,) = gather([str(tmp_path / "run")])
    assert same.notes == []
    fit = tmp_path / "run" / "fit.json"
    content = json.loads(fit.read_text())
    (tmp_path / "run" / "checkpoints" / "last.ckpt").unlink()  # which would tell its tokens itself
    fit.write_text(json.dumps(content | {"train/tokens": 900}))
    (later,) = gather([str(tmp_path / "run")])
    (told,) = later.notes
    assert told.startswith(
        "warning: fit.json has the validation after 768 training tokens, but the checkpoint is of 900"
    )
    assert f"vsae validate {tmp_path / 'run'}" in told

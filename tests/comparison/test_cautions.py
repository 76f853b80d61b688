"""Warnings about numbers that cannot be compared as they are."""

from pathlib import Path
from typing import Any

import pytest

from run_folders import model, write_run
from vsae_lightning.comparison.cautions import cautions, off_target, target_l0
from vsae_lightning.comparison.gather import gather
from vsae_lightning.comparison.groups import group


@pytest.mark.parametrize(
    ("settings", "target"),
    [
        ({"sparsifier": "TopK", "sparsifier.k": 32}, 32.0),
        ({"sparsifier": "BatchTopK", "sparsifier.k": 8}, 8.0),
        ({"sparsifier": "Matryoshka", "sparsifier.sparsifier": "BatchTopK", "sparsifier.sparsifier.k": 4}, 4.0),
        ({"sparsifier": "JumpReLU"}, None),
        ({"sparsifier": "Matryoshka", "sparsifier.sparsifier": "ReLU"}, None),
        ({"sparsifier": "TopK", "sparsifier.k": "many"}, None),
        ({}, None),
    ],
)
def test_the_target_is_the_k_of_the_sparsifier(settings: dict[str, Any], target: float | None) -> None:
    assert target_l0(settings) == target


@pytest.mark.parametrize(
    ("l0", "words"),
    [
        ([32.0, 30.5, 33.5], None),
        ([32.0, 19.9], "held-out L0 is 19.9, 38% below k = 32"),
        ([34.0], "held-out L0 is 34.0, 6% above k = 32"),
        ([], None),
    ],
)
def test_an_l0_off_its_target_is_warned_of(l0: list[float], words: str | None) -> None:
    told = off_target("mine", {"sparsifier": "BatchTopK", "sparsifier.k": 32}, l0)
    assert told is None if words is None else told is not None and words in told


def test_groups_on_different_text_are_warned_of(tmp_path: Path) -> None:
    test = {"test/l0": 8.0}
    text = {"class_path": "vsae_lightning.TextFiles", "init_args": {"paths": "a.txt"}}
    one = write_run(tmp_path / "a", model(), test=test)
    two = write_run(tmp_path / "b", model(seed=1), test=test)
    other = write_run(tmp_path / "c", model(), test=test, data={"text": text})
    assert cautions(group(gather([str(one), str(two)]))) == []
    (told,) = cautions(group(gather([str(one), str(other)])))
    assert "each group is measured on the held-out part of its own text" in told
    assert "text=TextFiles" in told


def test_what_is_left_out_is_told_with_both_values(tmp_path: Path) -> None:
    test = {"test/explained_variance": 0.7, "test/explained_variance_all_rows": 0.95, "test/left_out_fraction": 0.0002}
    run = write_run(tmp_path / "a", model(), test=test | {"test/l0": 8.0})
    (told,) = cautions(group(gather([str(run)])))
    assert "leave out 0.020% of the rows" in told
    assert "explained variance with them: 0.9500" in told

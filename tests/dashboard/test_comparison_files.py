"""`compare`, as the pages read it, of two small dictionaries worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from observations import all_alive, observation
from vsae_lightning.analysis.matching import Comparison, compare
from vsae_lightning.dashboard.comparison_files import write_comparison
from vsae_lightning.dashboard.data_files import read_data, writer

ONE = torch.tensor([[0.96, 0.28, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 2.0], [1.0, 1.0, 1.0]])
OTHER = torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
# 20 rows: the first feature fires in all, the second in two, the third in one, the fourth never.
FIRES = torch.zeros(20, 4)
FIRES[:, 0], FIRES[:2, 1], FIRES[0, 2] = 1.0, 2.0, 0.5


@pytest.fixture
def written(tmp_path: Path) -> dict[str, Any]:
    compared = compare(observation(ONE, FIRES, "mine", 0.875), all_alive(OTHER, "other"), Comparison(threshold=0.9))
    write_comparison(writer(tmp_path), compared, (np.array([0.5, 0.25, np.nan, np.nan]), None))
    content: dict[str, Any] = read_data(tmp_path, "compare")
    return content


def test_pairs_and_what_only_one_has(written: dict[str, Any]) -> None:
    assert written["names"] == ["mine", "other"]
    assert written["threshold"] == 0.9
    assert written["pairs"] == [[0, 0, 0.96], [1, 1, 0.8]]
    assert written["only_mine"] == [[2, 0.0], [1, 0.8]]
    assert written["only_other"] == [[1, 0.8]]


def test_the_map_has_every_feature_that_fires(written: dict[str, Any]) -> None:
    found = written["map"]
    assert (found["mine"], found["other"]) == ([0, 1, 2], [0, 1])
    assert [len(found[axis]) for axis in ("x", "y", "x2", "y2")] == [3, 3, 2, 2]
    assert "all of both" in found["how"]


def test_numbers_side_by_side(written: dict[str, Any]) -> None:
    found = {number["name"]: (number["mine"], number["other"]) for number in written["numbers"]}
    assert found == {
        "explained variance": (0.875, 0.5),
        "L0": (pytest.approx((20 + 2 + 1) / 20), 1.0),
        "features": (4, 2),
        "alive": (3, 2),
        "alive fraction": (0.75, 1.0),
        "dense": (1, 2),  # over 10 % of rows: 2 of 20 are not
        "median density": (0.1, 0.5),
        "mean predicate F1": (0.375, None),
        "mean cosine of pairs": (0.88, 0.88),
        "in a pair": (0.6667, 1.0),
        "matched": (0.3333, 0.5),
        "MMCS": (pytest.approx((0.96 + 0.8 + 0) / 3, abs=1e-4), 0.88),
        "only here": (2, 1),
    }
    assert all(number["help"] for number in written["numbers"])


def test_two_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    write_comparison(writer(tmp_path), compare(all_alive(OTHER), all_alive(OTHER), Comparison()))
    assert read_data(tmp_path, "compare")["names"] == ["run", "run (the other)"]


def test_dictionaries_of_two_widths_each_have_their_predicates(tmp_path: Path) -> None:
    compared = compare(all_alive(ONE), all_alive(OTHER), Comparison())
    write_comparison(writer(tmp_path), compared, (np.array([0.5, 0.25, np.nan, np.nan]), np.array([0.125, np.nan])))
    numbers = {number["name"]: number for number in read_data(tmp_path, "compare")["numbers"]}
    f1 = numbers["mean predicate F1"]
    assert (f1["mine"], f1["other"]) == (0.375, 0.125)

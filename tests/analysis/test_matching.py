"""Features of two dictionaries, matched: a permuted copy, and a few worked out by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from observations import all_alive, observation
from vsae_lightning.analysis.matching import Comparison, compare
from vsae_lightning.errors import InputError

# Cosines of the rows of one with those of the other: 0.96 and 0.28; 0.6 and 0.8; 0 and 0.
ONE = torch.tensor([[0.96, 0.28, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, 1.0]])
OTHER = torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def test_a_permuted_copy_with_noise_is_matched_back() -> None:
    chance = torch.Generator().manual_seed(0)
    rows, order = torch.randn(80, 24, generator=chance), torch.randperm(80, generator=chance)
    noisy = rows[order] + 0.3 * torch.randn(80, 24, generator=chance)
    found = compare(all_alive(noisy), all_alive(rows), Comparison())
    assert dict(zip(found.pairs.a.tolist(), found.pairs.b.tolist(), strict=True)) == dict(enumerate(order.tolist()))
    expected = F.cosine_similarity(noisy.double(), rows[order].double())
    assert found.pairs.cosine.tolist() == pytest.approx(sorted(expected.tolist(), reverse=True), abs=1e-6)
    assert not len(found.mine.only(0.7)[0])


def test_by_hand() -> None:
    found = compare(all_alive(ONE), all_alive(OTHER), Comparison())
    assert found.pairs.a.tolist() == [0, 1]
    assert found.pairs.b.tolist() == [0, 1]
    assert found.pairs.cosine.tolist() == pytest.approx([0.96, 0.8])
    assert found.mine.best.tolist() == pytest.approx([0.96, 0.8, 0, 0])
    assert found.other.best.tolist() == pytest.approx([0.96, 0.8])
    features, best = found.mine.only(0.9)
    assert features.tolist() == [2, 3, 1]
    assert best.tolist() == pytest.approx([0, 0, 0.8])


def test_what_does_not_fire_has_no_part() -> None:
    fires = torch.tensor([[0.0, 2.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]])
    found = compare(observation(ONE, fires), all_alive(OTHER), Comparison())
    assert found.mine.features.tolist() == [1, 3]
    # 0.8 with the second; the first has lost its twin, and its nearest is at 0.6.
    assert (found.pairs.a.tolist(), found.pairs.b.tolist()) == ([1], [1])
    assert found.other.best.tolist() == pytest.approx([0.6, 0.8])
    assert found.other.only(0.7)[0].tolist() == [0]
    assert found.joint.mine.tolist() == [1, 3]


def nearest(places: np.ndarray) -> list[int]:
    points = torch.from_numpy(places).double()
    distances = torch.cdist(points, points).fill_diagonal_(torch.inf)
    return distances.argmin(1).tolist()


def rows_of(count: int) -> Tensor:
    return torch.randn(count, 24, generator=torch.Generator().manual_seed(3))


def test_on_the_joint_map_twins_are_neighbours() -> None:
    rows = rows_of(60)
    found = compare(all_alive(rows), all_alive(5 * rows), Comparison())
    assert found.joint.places.shape == (120, 2)
    twins = [(one + 60) % 120 for one in range(120)]
    assert np.mean(np.array(nearest(found.joint.places)) == twins) > 0.95


def test_the_joint_map_has_no_more_of_each_than_asked() -> None:
    found = compare(all_alive(rows_of(60)), all_alive(rows_of(8)), Comparison(map_features=20))
    assert len(set(found.joint.mine.tolist())) == 20
    assert found.joint.other.tolist() == list(range(8))
    assert found.joint.places.shape == (28, 2)


def test_a_dictionary_that_is_dead_is_refused() -> None:
    dead = observation(OTHER, torch.tensor([[1.0, 0.0]]), "dead_run")
    with pytest.raises(InputError, match="against: fewer than two features of dead_run fire in the text"):
        compare(all_alive(ONE), dead, Comparison())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.3}, r"comparison\.threshold is 0\.3; it must be above 0\.3"),
        ({"threshold": 1.1}, r"comparison\.threshold is 1\.1"),
        ({"map_features": 1}, r"comparison\.map_features is 1; it must be at least 2"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Comparison(**options)

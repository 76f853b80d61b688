import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsae_lightning.data.statistics import InputStatistics, input_statistics, norm_statistics

LANES, ROWS, D_IN = 4, 250, 6

# One of several processes: the statistics of its lanes, written as raw bytes.
RANK = """
import sys
from datetime import timedelta
import torch
from vsae_lightning.data.statistics import input_statistics, norm_statistics

folder, rank, world = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/store{world}", rank=rank, world_size=world, timeout=timedelta(seconds=60)
)
rows = torch.load(f"{folder}/rows.pt")[rank::world]
statistics = (*input_statistics(rows), *norm_statistics(rows / 1e16, 3.0))
torch.save(statistics, f"{folder}/statistics{world}-{rank}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.fixture
def rows() -> Tensor:
    """Rows around a mean of about (-3, ..., 7), a few of them a thousand times larger than the others."""
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(LANES, ROWS, D_IN, generator=random) + torch.linspace(-3, 7, D_IN)
    rows[:, ::50] *= 1000
    return rows


def flat(rows: Tensor) -> NDArray[np.float64]:
    return rows.double().numpy().reshape(-1, rows.shape[-1])


def test_moments_by_hand() -> None:
    statistics = input_statistics(torch.tensor([[[3.0, 4.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, -2.0]]]))
    assert statistics.mean.tolist() == [1.0, 1.0]
    assert float(statistics.mean_squared_norm) == (25 + 1 + 4 + 4) / 4
    # Of the rows less their mean: (2, 3), (0, -1), (-1, 1), (-1, -3)
    assert float(statistics.centred_squared_norm) == (13 + 1 + 2 + 10) / 4
    assert statistics.outlier_severity == pytest.approx((2 / 6.5) ** 0.5, rel=1e-12)


def test_moments_are_those_of_float64(rows: Tensor) -> None:
    x = flat(rows)
    statistics = input_statistics(rows)
    np.testing.assert_allclose(statistics.mean.numpy(), x.mean(0), rtol=1e-12)
    assert float(statistics.mean_squared_norm) == pytest.approx((x**2).sum(1).mean(), rel=1e-12)
    assert float(statistics.centred_squared_norm) == pytest.approx(((x - x.mean(0)) ** 2).sum(1).mean(), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_moments_of_half_precision_rows_are_not_summed_in_it(dtype: torch.dtype) -> None:
    rows = torch.full((1, 5000, 3), 100.0, dtype=dtype)  # whose squares overflow float16, and their sum even more so
    statistics = input_statistics(rows)
    assert statistics.mean.tolist() == [100.0] * 3
    assert float(statistics.mean_squared_norm) == 30_000.0


@pytest.mark.parametrize("scale_to", ["d_in", "one"])
@pytest.mark.parametrize("center", [False, True])
def test_scaled_rows_have_the_squared_norm_asked_for(rows: Tensor, scale_to: Any, center: bool) -> None:
    mean, scale, energy = input_statistics(rows).scaling(scale_to, center)
    assert float(energy) == (D_IN if scale_to == "d_in" else 1)
    x = (flat(rows) - mean.double().numpy()) * float(scale)
    assert (x**2).sum(1).mean() == pytest.approx(D_IN if scale_to == "d_in" else 1, rel=1e-6)
    if center:
        np.testing.assert_allclose(x.mean(0), np.zeros(D_IN), atol=1e-6)
    else:
        assert mean.tolist() == [0.0] * D_IN
    assert mean.dtype == scale.dtype == torch.float32


def test_scaling_by_hand() -> None:
    statistics = InputStatistics(torch.tensor([1.0, 2.0]).double(), torch.tensor(13.0).double())
    assert float(statistics.centred_squared_norm) == 8.0
    assert [float(statistics.scaling("d_in", center)[1]) for center in (False, True)] == pytest.approx(
        [(2 / 13) ** 0.5, 0.5]
    )
    assert [float(statistics.scaling("one", center)[1]) for center in (False, True)] == pytest.approx(
        [(1 / 13) ** 0.5, (1 / 8) ** 0.5]
    )
    assert statistics.scaling("one", center=True)[0].tolist() == [1.0, 2.0]


def test_severity_is_the_norm_of_the_mean_over_that_of_the_standard_deviation(rows: Tensor) -> None:
    x = flat(rows)
    expected = np.linalg.norm(x.mean(0)) / np.linalg.norm(x.std(0))
    assert input_statistics(rows).outlier_severity == pytest.approx(expected, rel=1e-10)
    assert input_statistics(rows + 1e5).outlier_severity > 10 * expected


def test_two_ranks_compute_the_very_same_bits_as_one(tmp_path: Path, rows: Tensor) -> None:
    world = 2
    # Sums of such different sizes that another order of the lanes would show in the last bits.
    rows = rows * torch.tensor([1, 1e16, -1e16, 1])[:, None, None]
    expected = input_statistics(rows)
    reordered = input_statistics(rows[[0, 2, 1, 3]])
    assert not torch.equal(reordered.mean, expected.mean)
    torch.save(rows, tmp_path / "rows.pt")
    command = [sys.executable, "-c", RANK, str(tmp_path)]
    processes = [
        subprocess.Popen([*command, str(rank), str(world)], stderr=subprocess.PIPE, text=True) for rank in range(world)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * world, errors
    for rank in range(world):
        mean, mean_squared_norm, *norms = torch.load(tmp_path / f"statistics{world}-{rank}.pt")
        assert tuple(norms) == norm_statistics(rows / 1e16, 3.0)
        assert torch.equal(mean, expected.mean)
        assert torch.equal(mean_squared_norm, expected.mean_squared_norm)

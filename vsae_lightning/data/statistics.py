"""Mean, scale and largest norms of the activations, from the first block, equal on every number of ranks."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

ScaleTo = Literal["d_in", "one"]
MASSIVE_RATIO = 10.0  # dictionary_learning recommends it for the sinks of Qwen


class InputScaling(NamedTuple):
    """How raw activations become what the autoencoder sees, scale * (x - mean), and E||.||^2 of that."""

    mean: Float[Tensor, " d_in"]
    scale: Float[Tensor, ""]
    energy: Float[Tensor, ""]


class InputStatistics(NamedTuple):
    """Moments of the raw activations over the first block."""

    mean: Float[Tensor, " d_in"]
    mean_squared_norm: Float[Tensor, ""]

    @property
    def centred_squared_norm(self) -> Float[Tensor, ""]:
        """E||x - mean||^2."""
        return self.mean_squared_norm - self.mean.square().sum()

    @property
    def outlier_severity(self) -> float:
        """gamma = ||mean|| / ||standard deviation||; large values foretell dead latents (arXiv 2605.31518)."""
        return float(self.mean.norm() / self.centred_squared_norm.sqrt())

    def scaling(self, scale_to: ScaleTo, center: bool) -> InputScaling:
        """Such that E||scale * (x - mean)||^2 is d_in, or 1; mean is 0 unless `center`."""
        target = len(self.mean) if scale_to == "d_in" else 1
        mean = self.mean if center else torch.zeros_like(self.mean)
        energy = self.centred_squared_norm if center else self.mean_squared_norm
        return InputScaling(mean.float(), (target / energy).sqrt().float(), mean.new_tensor(target).float())


class NormStatistics(NamedTuple):
    """Norms of the raw activations over the first block. A massive row has a norm above `limit`.

    Attributes:
        ratio: What `limit` is in medians.
        limit: `ratio` times the median over lanes of the median norm of each lane; raw units.
        rows: Finite rows of the block.
        massive: How many of them are massive.
        largest: The largest norm, in medians.
        energy_share: The share of massive rows in the sum of ||x||^2.
    """

    ratio: float
    limit: float
    rows: int
    massive: int
    largest: float
    energy_share: float

    def told(self, are_left_out: bool) -> str:
        """One line on the massive rows, and the option that decides about them."""
        found = (
            f"{self.massive:,} of {self.rows:,} activations have a norm above {self.ratio:g} times the median, "
            f"{self.limit:.4g} (largest: {self.largest:,.0f} times; {self.energy_share:.1%} of the energy)"
        )
        if are_left_out:
            return f"{found}. Training and held-out metrics leave them out; to keep them: --data.max_norm_ratio null"
        option = f"--data.max_norm_ratio {self.ratio:g}"
        return f"{found}. They decide the loss and the explained variance; to leave them out: {option}"


def norm_statistics(lanes: Iterable[Float[Tensor, "_ d_in"]], ratio: float) -> NormStatistics:
    """Which norms are out of proportion; `lanes` are the finite rows of this rank's."""
    norms = [rows.float().norm(dim=-1).double() for rows in lanes]
    medians = _all_lanes(torch.stack([lane.median()[None] for lane in norms]))
    median = float(medians.median())
    limit = ratio * median
    sums = _all_lanes(torch.stack([_norm_sums(lane, limit) for lane in norms]))
    rows, massive, energy, massive_energy = sums[:, :4].sum(0).tolist()
    largest, share = float(sums[:, 4].max()) / max(median, 1e-30), massive_energy / max(energy, 1e-30)
    return NormStatistics(ratio, limit, int(rows), int(massive), largest, share)


def _norm_sums(norms: Float[Tensor, " rows"], limit: float) -> Float[Tensor, " 5"]:
    """Rows, massive rows, ||x||^2 of both, and the largest norm of one lane."""
    squares, massive = norms.square(), norms > limit
    sums = [norms.new_tensor(len(norms)), massive.sum(), squares.sum(), squares[massive].sum(), norms.max()]
    return torch.stack([value.to(norms.dtype) for value in sums])


def input_statistics(lanes: Iterable[Float[Tensor, "_ d_in"]]) -> InputStatistics:
    """The moments over the lanes of all ranks; `lanes` are the rows of this rank's."""
    total = _all_lanes(torch.stack([_sums(rows.double()) for rows in lanes])).sum(0)
    return InputStatistics(total[:-2] / total[-1], total[-2] / total[-1])


def _sums(rows: Float[Tensor, "rows d_in"]) -> Float[Tensor, " n"]:
    """Sum of x, sum of ||x||^2 and number of the rows of one lane."""
    return torch.cat([rows.sum(0), rows.square().sum()[None], rows.new_tensor([len(rows)])])


def _all_lanes(sums: Float[Tensor, "lanes n"]) -> Float[Tensor, "all_lanes n"]:
    """Every rank's lanes in lane order (rank r has lanes r, r + W, ...), so that all ranks add alike."""
    if _world_size() == 1:
        return sums
    gathered = [torch.empty_like(sums) for _ in range(_world_size())]
    torch.distributed.all_gather(gathered, sums)
    return torch.stack(gathered, dim=1).flatten(0, 1)


def _world_size() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1

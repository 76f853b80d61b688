"""Mean and scale of the activations, from the first block, equal on every number of ranks."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

ScaleTo = Literal["d_in", "one"]


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

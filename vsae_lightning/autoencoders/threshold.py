"""The threshold by which latents can be selected row by row, without comparing them with each other."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class InferenceThreshold(nn.Module):
    """The score that a given number of latents per row exceed, on average; in the latents' units.

    The threshold is calibrated on whole rows of training, as evaluation sees them, and depends on nothing else: not
    on earlier thresholds, and not on how often it was calibrated. The checkpoint holds it.
    """

    value: Float[Tensor, ""]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(-1.0))  # not calibrated yet

    @torch.no_grad()
    def calibrate(self, scores: Iterable[Float[Tensor, "rows d_sae"]], rows: int, k: int) -> None:
        """Take the threshold that k scores per row exceed; keep the old one where scores are not finite.

        Args:
            scores: The scores of all latents, some rows at a time.
            rows: The number of rows in all of `scores`.
            k: Latents per row.
        """
        threshold = exceeded_by(scores, rows * k)
        self.value.copy_(torch.where(threshold.isfinite(), threshold, self.value))


class CountedThreshold(InferenceThreshold):
    """A threshold that starts at 0, and knows on how many rows it was calibrated (older files: on how many batches)."""

    count: Int[Tensor, ""]

    def __init__(self) -> None:
        super().__init__()
        self.value.zero_()
        self.register_buffer("count", torch.tensor(0))

    @torch.no_grad()
    def calibrate(self, scores: Iterable[Float[Tensor, "rows d_sae"]], rows: int, k: int) -> None:
        super().calibrate(scores, rows, k)
        self.count.fill_(rows)


def exceeded_by(scores: Iterable[Float[Tensor, "_ d_sae"]], number: int) -> Float[Tensor, ""]:
    """The threshold that `number` of all scores exceed; 0 where fewer are positive.

    The threshold lies midway between the last score that exceeds it and the next, so that rounding moves neither.
    """
    best: Tensor | None = None
    for part in scores:
        # Only one part is held at a time: the scores of all rows may not fit into memory.
        flat = part.detach().float().flatten()
        known = flat if best is None else torch.cat([best, flat])
        best = known.topk(min(number + 1, known.numel()), sorted=False).values
    assert best is not None, "no rows"
    if len(best) <= number:
        return best.new_zeros(())
    return best.topk(2, largest=False).values.mean().clamp_min(0)

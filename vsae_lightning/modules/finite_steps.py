"""Steps whose loss or gradient is not finite: named, counted, and without effect on weights and optimizer."""

import warnings
from collections.abc import Iterable
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from vsae_lightning.autoencoders.precision import squared_error
from vsae_lightning.batches import ActivationBatch
from vsae_lightning.modules.forward import ForwardPass


class FiniteSteps:
    """Watches the batches of an optimizer step, and lets its gradient through only if all is finite.

    A step that is skipped moves neither weights nor optimizer state; its rows are consumed, and the
    learning-rate schedule goes on.

    Attributes:
        skipped: Steps skipped so far, over all fits; part of the checkpoint.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._losses_are_finite: Bool[Tensor, ""] | None = None
        self._last: tuple[ActivationBatch, Float[Tensor, " batch"]] | None = None

    def watch(self, loss: Float[Tensor, ""], batch: ActivationBatch, forward: ForwardPass) -> None:
        """Take note of one batch; `loss` is that of all ranks, so that all decide alike."""
        finite = loss.isfinite()
        self._losses_are_finite = finite if self._losses_are_finite is None else self._losses_are_finite & finite
        self._last = (batch, squared_error(forward.x, forward.x_hat.detach()))

    def admit(self, parameters: Iterable[nn.Parameter], step: int, loader: Any) -> Float[Tensor, ""] | None:
        """The norm of the gradient; None, and the gradient is gone, if it or a loss was not finite.

        Args:
            parameters: Those of one optimizer.
            step: The optimizer step, for the message.
            loader: What served the batches; one that knows the `origin` of rows is asked for it.
        """
        parameters = [parameter for parameter in parameters if parameter.grad is not None]
        norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        finite = norm.isfinite()
        if self._losses_are_finite is not None:
            finite = finite & self._losses_are_finite
        self._losses_are_finite = None
        if bool(finite):
            return norm
        for parameter in parameters:
            parameter.grad = None
        self.skipped += 1
        warnings.warn(
            f"step {step}: the loss or the gradient is not finite; skipped ({self.skipped} so far). "
            + self._describe(loader),
            stacklevel=2,
        )
        return None

    def _describe(self, loader: Any) -> str:
        """Which rows, of the last batch of the step on this rank."""
        if self._last is None:
            return ""
        batch, errors = self._last
        rows = (~errors.isfinite()).nonzero().squeeze(-1)
        what = f"{len(rows)} rows are not reconstructed finitely"
        if len(rows) == 0:
            rows, what = errors.topk(min(8, len(errors))).indices, "the worst reconstructed rows"
        if not hasattr(loader, "origin"):
            return f"Batch {batch.step}: {what}."
        blocks, sequences = loader.origin(batch.step)
        place = f"Batch {batch.step}, block {', '.join(map(str, blocks))}: {what}"
        if len(sequences) != len(errors):  # sharded: the rows are those of all ranks, and the loader knows its own
            return f"{place}."
        return f"{place}, of sequences {sequences[rows.to(sequences.device)].unique().tolist()[:8]}."

"""The terms of a loss."""

from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor


class LossTerms(NamedTuple):
    """Scalars; a term that the module does not have is None.

    Attributes:
        total: What is minimised: the sum of the terms times their weights.
        reconstruction: ||x - x_hat||^2, summed over d_in, mean over the batch.
        side: The further reconstructions of the sparsifier (Matryoshka, Gated), mean over the batch.
        sparsity: The sparsifier's penalty, mean over the batch.
        sparsity_weight: Its weight at this step.
        kl: KL(q || p) in nats, mean over the batch.
        kl_weight: Its weight at this step.
        gate_kl: The KL on usage in nats, summed over latents.
        gate_kl_weight: Its weight at this step.
        aux: AuxK, a share of the residual's variance.
    """

    total: Float[Tensor, ""]
    reconstruction: Float[Tensor, ""]
    side: Float[Tensor, ""] | None = None
    sparsity: Float[Tensor, ""] | None = None
    sparsity_weight: float | None = None
    kl: Float[Tensor, ""] | None = None
    kl_weight: Float[Tensor, ""] | float | None = None
    gate_kl: Float[Tensor, ""] | None = None
    gate_kl_weight: float | None = None
    aux: Float[Tensor, ""] | None = None

    def plus(
        self, name: str, value: Float[Tensor, ""], weight: Tensor | float = 1.0, scale: Tensor | float = 1.0
    ) -> "LossTerms":
        """With one term more, of `weight` times `scale`; the weight is kept where the term has one to report."""
        changes: dict[str, Any] = {"total": self.total + weight * scale * value, name: value}
        if f"{name}_weight" in self._fields:
            changes[f"{name}_weight"] = weight
        return self._replace(**changes)

    def named(self) -> dict[str, Tensor | float]:
        """What is there, by name; `total` as `loss`."""
        values = {("loss" if name == "total" else name): value for name, value in self._asdict().items()}
        return {name: value for name, value in values.items() if value is not None}

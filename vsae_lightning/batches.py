"""What the data modules hand to the LightningModules."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class ActivationBatch(NamedTuple):
    """One rank's part of a training step: equal numbers of rows of each of its lanes, lane after lane.

    Attributes:
        activations: The rows.
        step: Of the stream: a batch, of which several may make one optimizer step.
        lanes: Which lanes they are of.
        first_row: The place of the first row of each lane in that lane's endless sequence.
    """

    activations: Float[Tensor, "batch d_in"]
    step: int
    lanes: tuple[int, ...]
    first_row: int


class HeldOutBatch(NamedTuple):
    """Activations of whole held-out sequences, in order, with the tokens they belong to.

    Attributes:
        activations: The rows that training would keep.
        token_ids: The token of each row.
        positions: Its position in its sequence.
        sequences: The number of its sequence.
        left_out: Activations of the other rows: those whose norm is out of proportion.
    """

    activations: Float[Tensor, "batch d_in"]
    token_ids: Int[Tensor, " batch"]
    positions: Int[Tensor, " batch"]
    sequences: Int[Tensor, " batch"]
    left_out: Float[Tensor, "left_out d_in"]


class SyntheticBatch(NamedTuple):
    """Held-out activations of a known dictionary, with the strength of every true feature (0: absent)."""

    activations: Float[Tensor, "batch d_in"]
    codes: Float[Tensor, "batch num_features"]

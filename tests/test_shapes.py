"""Under pytest the shapes that the package declares are checked, in each of its processes."""

import pytest
import torch
from jaxtyping import TypeCheckError

from vsae_lightning import ReLU, SparseAutoencoder


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        SparseAutoencoder(2, 3, ReLU()).encoder_input(torch.zeros(5, 4, 2))

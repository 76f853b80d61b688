"""Active sets, of latents that are dense and sparse."""

import torch

from vsae_lightning.autoencoders.latents import DenseLatents, SparseLatents
from vsae_lightning.evaluation.firing import ActiveSets

DENSE = torch.tensor([[0.0, 1.5, 0.0, -2.0], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 3.0, 0.0]])
# The same; what was selected with the value 0 is not active.
SPARSE = SparseLatents(
    torch.tensor([[-2.0, 1.5], [0.0, 0.0], [3.0, 1.0]]), torch.tensor([[3, 1], [2, 0], [2, 0]]), d_sae=4
)


def test_dense_and_sparse_latents_have_the_same_active_sets() -> None:
    for latents in (DenseLatents(DENSE), SPARSE):
        active = ActiveSets.of(latents)
        assert active.shape == (3, 4)
        assert active.sizes().tolist() == [2, 0, 2]
        assert (active.matrix().toarray() == (DENSE != 0).int().numpy()).all()


def test_overlap_by_hand() -> None:
    one = ActiveSets.of(SPARSE)
    other = ActiveSets.of(DenseLatents(torch.tensor([[0.0, 9.0, 1.0, 0.0], [0.0] * 4, [0.0, 1.0, 0.0, 1.0]])))
    assert one.shared(other).tolist() == other.shared(one).tolist() == [1, 0, 0]
    assert one.jaccard(other).tolist() == torch.tensor([1 / 3, 1, 0]).tolist()
    assert one.jaccard(one).tolist() == [1, 1, 1]

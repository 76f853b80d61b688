import pytest
import torch
from torch.nn.functional import cosine_similarity

import vsae_lightning as vl
from vsae_lightning.autoencoders.latents import DenseLatents, SparseLatents
from vsae_lightning.evaluation.core_features import FeatureCounts, feature_details, summary
from vsae_lightning.metrics.directions import largest_cosines

# Rows of two sequences; latent 2 is negative in the last row, which is not firing.
DENSE = torch.tensor([[1.0, 0.0, 0.0, 0.0], [2.0, 1.0, 0.0, 0.0], [3.0, 0.0, -1.0, 0.0]])
SEQUENCE = torch.tensor([0, 0, 1])
SPARSE = SparseLatents(torch.tensor([[1.0, 0.0], [1.0, 2.0], [3.0, -1.0]]), torch.tensor([[0, 3], [1, 0], [0, 2]]), 4)


@pytest.mark.parametrize("latents", [DenseLatents(DENSE), SPARSE])
def test_tokens_and_sequences_are_counted(latents: DenseLatents | SparseLatents) -> None:
    counts = FeatureCounts(4, torch.device("cpu"))
    counts.update(latents, SEQUENCE)
    counts.update(latents, SEQUENCE)
    assert counts.density.tolist() == pytest.approx([1.0, 1 / 3, 0.0, 0.0])
    assert counts.tokens_per_sequence.tolist() == [1.5, 1.0, -1.0, -1.0]


def test_the_largest_cosine_with_another() -> None:
    vectors = torch.randn(1100, 4, generator=torch.Generator().manual_seed(0))  # three chunks
    cosines = cosine_similarity(vectors[:, None], vectors[None], dim=-1).fill_diagonal_(-1)
    torch.testing.assert_close(largest_cosines(vectors), cosines.amax(1), rtol=0, atol=1e-6)


def test_details_and_their_summary_by_hand() -> None:
    autoencoder = vl.SparseAutoencoder(2, 4, vl.ReLU()).requires_grad_(False)
    autoencoder.W_enc.copy_(torch.tensor([[2.0, 0.0, 1.0, -1.0], [0.0, 3.0, 1.0, 0.0]]))
    autoencoder.W_dec.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    autoencoder.b_enc.copy_(torch.tensor([0.5, 0.0, 0.0, -1.0]))
    counts = FeatureCounts(4, torch.device("cpu"))
    counts.update(SPARSE, SEQUENCE)
    details = feature_details(autoencoder, counts)
    half = pytest.approx(0.5**0.5)
    assert [one["encoder_norm"] for one in details] == [2.0, 3.0, pytest.approx(2**0.5), 1.0]
    assert [one["encoder_bias"] for one in details] == [0.5, 0.0, 0.0, -1.0]
    assert [one["encoder_decoder_cosine_sim"] for one in details] == [1.0, 0.0, half, 0.0]
    assert [one["max_encoder_cosine_sim"] for one in details] == [half, half, half, 0.0]
    assert [one["max_decoder_cosine_sim"] for one in details] == [1.0, 1.0, 0.0, 0.0]
    assert summary(details) == {
        "freq_over_1_percent": 0.5,
        "freq_over_10_percent": 0.5,
        "normalized_freq_over_1_percent": 1.0,
        "normalized_freq_over_10_percent": 1.0,
        "average_max_encoder_cosine_sim": pytest.approx(3 * 0.5**0.5 / 4),
        "average_max_decoder_cosine_sim": 0.5,
        "frac_alive": 0.5,
    }

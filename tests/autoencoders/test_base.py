"""The autoencoder by hand: encode, decode, start, folding."""

from typing import Any

import pytest
import torch

from vsae_lightning import InputError, ReLU, SparseAutoencoder, TopK, VariationalAutoencoder


def by_hand() -> SparseAutoencoder:
    ae = SparseAutoencoder(2, 3, ReLU())
    ae.load_state_dict(
        {
            "W_enc": torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, 2.0]]),
            "b_enc": torch.tensor([0.0, -1.0, 0.5]),
            "W_dec": torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]]),
            "b_dec": torch.tensor([1.0, 1.0]),
        }
    )
    return ae


def test_encode_and_decode_by_hand() -> None:
    # x - b_dec = (2, 1): pre-activations 2, 1 - 1, -2 + 2 + 0.5
    x = torch.tensor([[3.0, 2.0]])
    ae = by_hand()
    assert ae.encode(x).tolist() == [[2.0, 0.0, 0.5]]
    assert ae(x).tolist() == [[4.0, 2.0]]  # 2 * (1, 0) + 0.5 * (2, 2) + (1, 1)
    assert ae.decode(ae.encode(x)).tolist() == [[4.0, 2.0]]


def test_without_pre_bias_x_is_encoded_as_it_is() -> None:
    ae = by_hand()
    ae.pre_bias = False
    assert ae.encode(torch.tensor([[3.0, 2.0]])).tolist() == [[3.0, 1.0, 1.5]]


def test_leading_dimensions_are_kept() -> None:
    ae = SparseAutoencoder(4, 10, TopK(3))
    x = torch.randn(2, 5, 4)
    assert ae.encode(x).shape == (2, 5, 10)
    assert ae(x).shape == x.shape
    torch.testing.assert_close(ae(x)[1, 3], ae(x[1, 3]))
    torch.testing.assert_close(ae.decode(ae.encode(x)), ae(x))


def test_start_is_tied_and_centred() -> None:
    ae = SparseAutoencoder(6, 20, TopK(2), decoder="free", decoder_norm=0.1)
    assert torch.equal(ae.W_enc, ae.W_dec.T)
    torch.testing.assert_close(ae.W_dec.norm(dim=-1), torch.full((20,), 0.1))
    assert ae.b_enc.abs().sum() == ae.b_dec.abs().sum() == 0


@pytest.mark.parametrize("pre_bias", [True, False])
@pytest.mark.parametrize("kind", [SparseAutoencoder, VariationalAutoencoder])
def test_folding_equals_scaling_the_input(kind: type[SparseAutoencoder], pre_bias: bool) -> None:
    torch.manual_seed(0)
    ae = kind(5, 12, TopK(3), pre_bias=pre_bias).double()
    for parameter in ae.parameters():
        parameter.data.normal_()
    x, mean, scale = torch.randn(7, 5).double(), torch.randn(5).double(), torch.tensor(3.7).double()
    scaled = scale * (x - mean)
    latents, x_hat = ae.encode(scaled), ae(scaled) / scale + mean
    posterior = ae.posterior(scaled) if isinstance(ae, VariationalAutoencoder) else None
    ae.fold_input_scaling(mean, scale)
    torch.testing.assert_close(ae.encode(x), latents, rtol=0, atol=1e-9)
    torch.testing.assert_close(ae(x), x_hat, rtol=0, atol=1e-9)
    if isinstance(ae, VariationalAutoencoder):
        assert posterior is not None
        torch.testing.assert_close(ae.posterior(x).sigma, posterior.sigma, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d_sae": 0}, "d_sae is 0"),
        ({"d_in": -1}, "d_in is -1"),
        ({"decoder_norm": 0.5}, "decoder_norm is 0.5; it must be 1 with decoder: unit"),
        ({"decoder": "free", "decoder_norm": 0.0}, "decoder_norm is 0.0; it must be positive"),
    ],
)
def test_bad_sizes_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SparseAutoencoder(**{"d_in": 4, "d_sae": 8, "sparsifier": ReLU(), **arguments})

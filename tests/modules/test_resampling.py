"""Restarted latents by hand; everything else untouched bit for bit."""

from typing import Any

import pytest
import torch
from torch import Tensor

import vsae_lightning as vl
from vsae_lightning.modules.resampling import in_lane_order, resample_dead_

D_IN, D_SAE, ROWS = 5, 8, 30
DEAD = torch.tensor([False, True, False, False, True, True, False, False])

AUTOENCODERS: dict[str, Any] = {
    "sae": lambda: vl.SparseAutoencoder(D_IN, D_SAE, vl.TopK(2)),
    "no pre-bias": lambda: vl.SparseAutoencoder(D_IN, D_SAE, vl.TopK(2), pre_bias=False),
    "free decoder": lambda: vl.SparseAutoencoder(D_IN, D_SAE, vl.TopK(2), decoder="free", decoder_norm=0.1),
    "jump": lambda: vl.SparseAutoencoder(D_IN, D_SAE, vl.JumpReLU(0.07)),
    "gated": lambda: vl.SparseAutoencoder(D_IN, D_SAE, vl.Gated()),
    "nested": lambda: vl.SparseAutoencoder(D_IN, D_SAE, vl.Matryoshka(vl.Gated(), [4])),
    "learned sigma": lambda: vl.VariationalAutoencoder(D_IN, D_SAE, vl.TopK(2), sigma="learned"),
    "closed form": lambda: vl.VariationalAutoencoder(D_IN, D_SAE, vl.TopK(2), sigma="closed_form"),
}
STARTS = {"b_enc": 0.0, "b_var": -2.0, "r": 0.0, "b": 0.0}


def trained(kind: str) -> tuple[vl.SparseAutoencoder, torch.optim.Adam]:
    """Generic weights, and an Adam that has stepped twice."""
    autoencoder = AUTOENCODERS[kind]()
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=0.01)
    for parameter in autoencoder.parameters():
        parameter.data.normal_(generator=generator)
    for _ in range(2):
        for parameter in autoencoder.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return autoencoder, optimizer


def candidates() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(ROWS, D_IN, generator=generator), torch.rand(ROWS, generator=generator)


def latents_first(name: str, tensor: Tensor) -> Tensor:
    return tensor.T if name in ("W_enc", "W_var") else tensor


@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_the_dead_start_anew_and_nothing_else_changes(kind: str) -> None:
    autoencoder, optimizer = trained(kind)
    before = {name: parameter.detach().clone() for name, parameter in autoencoder.named_parameters()}
    moments = {name: copy_of(optimizer.state[p]) for name, p in autoencoder.named_parameters()}
    x, errors = candidates()
    resample_dead_(autoencoder, optimizer, DEAD, x, errors, torch.Generator().manual_seed(2))
    inputs = x if kind == "no pre-bias" else x - before["b_dec"]
    allowed = inputs / inputs.square().sum(-1, keepdim=True).sqrt()
    norm = 0.2 * sum(before["W_enc"][:, j].square().sum().sqrt() for j in range(D_SAE) if not DEAD[j]) / 5
    radius = 0.1 if kind == "free decoder" else 1.0
    for j in DEAD.nonzero().flatten().tolist():
        direction = autoencoder.W_dec[j] / radius
        assert (allowed - direction).abs().amax(-1).min() < 1e-6
        torch.testing.assert_close(autoencoder.W_enc[:, j], norm * direction)
    for name, parameter in autoencoder.named_parameters():
        short, now = name.split(".")[-1], latents_first(name, parameter.detach())
        if short == "b_dec":
            assert torch.equal(now, before[name])
            continue
        assert torch.equal(now[~DEAD], latents_first(name, before[name])[~DEAD])
        if short in STARTS:
            assert (now[DEAD] == STARTS[short]).all()
        if short == "W_var":
            assert (now[DEAD] == 0).all()
        if short == "log_threshold":
            torch.testing.assert_close(now[DEAD].exp(), torch.full((3,), 0.07))
    assert_moments(autoencoder, optimizer, moments)


def copy_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in state.items()}


def assert_moments(autoencoder: Any, optimizer: torch.optim.Adam, before: dict[str, dict[str, Tensor]]) -> None:
    """Adam's moments are zero for the dead, and otherwise as they were; its count of steps too."""
    for name, parameter in autoencoder.named_parameters():
        for key, value in optimizer.state[parameter].items():
            if name == "b_dec" or key == "step":
                assert torch.equal(value, before[name][key])
                continue
            now, old = latents_first(name, value), latents_first(name, before[name][key])
            assert (old[DEAD] != 0).all()
            assert (now[DEAD] == 0).all()
            assert torch.equal(now[~DEAD], old[~DEAD])


def test_inputs_are_drawn_in_proportion_to_the_square_of_their_error() -> None:
    """Squared error is the loss; its square weighs (2 : 1 in the error is 4 : 1 in the draws)."""
    autoencoder = vl.SparseAutoencoder(3, 4001, vl.TopK(2))
    dead = torch.ones(4001, dtype=torch.bool)
    dead[0] = False
    x, errors = torch.eye(3), torch.tensor([2.0, 1.0, 0.0])
    optimizer = torch.optim.Adam(autoencoder.parameters())
    resample_dead_(autoencoder, optimizer, dead, x, errors, torch.Generator().manual_seed(0))
    counts = autoencoder.W_dec[dead].sum(0)
    assert counts.sum().item() == pytest.approx(4000)
    assert counts[2] == 0
    assert counts[0].item() / 4000 == pytest.approx(0.8, abs=4 * (0.16 / 4000) ** 0.5)


def test_the_draw_is_that_of_its_generator() -> None:
    results = []
    for seed in (3, 3, 4):
        autoencoder, optimizer = trained("sae")
        resample_dead_(autoencoder, optimizer, DEAD, *candidates(), torch.Generator().manual_seed(seed))
        results.append(autoencoder.W_dec.detach().clone())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("dead", [torch.zeros(D_SAE, dtype=torch.bool), torch.ones(D_SAE, dtype=torch.bool)])
def test_with_none_or_all_dead_nothing_happens(dead: Tensor) -> None:
    autoencoder, optimizer = trained("jump")
    before = {name: parameter.detach().clone() for name, parameter in autoencoder.named_parameters()}
    moments = {name: copy_of(optimizer.state[p]) for name, p in autoencoder.named_parameters()}
    resample_dead_(autoencoder, optimizer, dead, *candidates(), torch.Generator())
    for name, parameter in autoencoder.named_parameters():
        assert torch.equal(parameter, before[name])
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(value, moments[name][key])


def test_where_every_input_is_reconstructed_there_is_nothing_to_start_from() -> None:
    autoencoder, optimizer = trained("sae")
    before = autoencoder.W_dec.detach().clone()
    resample_dead_(autoencoder, optimizer, DEAD, candidates()[0], torch.zeros(ROWS), torch.Generator())
    assert torch.equal(autoencoder.W_dec, before)


def test_an_optimizer_that_has_not_stepped_is_fine() -> None:
    autoencoder = AUTOENCODERS["sae"]()
    before = autoencoder.W_dec.detach().clone()
    resample_dead_(autoencoder, torch.optim.SGD(autoencoder.parameters()), DEAD, *candidates(), torch.Generator())
    assert (autoencoder.W_dec != before).any(-1).tolist() == DEAD.tolist()


def test_an_aligned_encoder_stays_aligned() -> None:
    """With <w, d> = 1 the norm of 0.2 is beyond reach: a restarted latent's encoder is its decoder row."""
    autoencoder = vl.SparseAutoencoder(D_IN, D_SAE, vl.TopK(2), encoder="aligned")
    optimizer = torch.optim.Adam(autoencoder.parameters())
    resample_dead_(autoencoder, optimizer, DEAD, *candidates(), torch.Generator())
    torch.testing.assert_close(autoencoder.encoder_weights().T[DEAD], autoencoder.W_dec[DEAD])


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_rows_come_in_the_order_of_one_rank(ranks: int, lanes: int) -> None:
    """Rank r has lanes r, r + ranks, ...; one rank alone has them all in order, two rows each."""
    rows = torch.arange(ranks * lanes * 2 * 4, dtype=torch.float).reshape(ranks * lanes, 2, 4)
    gathered = torch.stack([torch.cat([rows[r + ranks * i] for i in range(lanes)]) for r in range(ranks)])
    assert torch.equal(in_lane_order(gathered, lanes), rows.flatten(0, 1))
    assert torch.equal(in_lane_order(gathered[..., 0], lanes), rows[..., 0].flatten())

"""Nested dictionaries: side reconstructions by hand, and everything else handed to the sparsifier within."""

from typing import Any

import pytest
import torch

import vsae_lightning as vl
from vsae_lightning.autoencoders.draw import Draw

Z = torch.tensor([[3.0, -5.0, 1.0, 2.0], [-1.0, 4.0, -3.0, 0.5]])
W_DEC = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-1.0, 5.0]])
B_DEC = torch.tensor([1.0, -1.0])
X = torch.tensor([[2.0, 0.0], [1.0, 1.0]])


@pytest.mark.parametrize("inner", [vl.TopK(2), vl.ReLU()], ids=["sparse", "dense"])
def test_side_error_by_hand(inner: vl.Sparsifier) -> None:
    """Prefixes of one and of two latents; TopK keeps latents 0, 3 of row 0 and 1, 3 of row 1, ReLU 2 too."""
    sparsifier = vl.Matryoshka(inner, [1, 2])
    latents = sparsifier(Z, Z)
    # Row 0: both prefixes give 3 (1, 0) + (1, -1) = (4, -1), error 4 + 1.
    # Row 1: the first gives (1, -1), error 4; the second 4 (0, 2) + (1, -1) = (1, 7), error 36.
    assert sparsifier.side_error(X, Z, latents, W_DEC, B_DEC).tolist() == [10.0, 40.0]


def test_gradient_reaches_the_prefix_alone() -> None:
    decoder, bias = W_DEC.clone().requires_grad_(), B_DEC.clone().requires_grad_()
    z = Z.clone().requires_grad_()
    sparsifier = vl.Matryoshka(vl.TopK(2), [1])
    side = sparsifier.side_error(X, z, sparsifier(z, z), decoder, bias)
    to_z, to_decoder, to_bias = torch.autograd.grad(side.sum(), [z, decoder, bias])
    # Row 0: x_hat - x = (2, -1); row 1: (0, -2), with nothing of the prefix active.
    assert to_z.tolist() == [[4.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    assert to_decoder.tolist() == [[12.0, -6.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    assert to_bias.tolist() == [4.0, -6.0]


def test_the_latents_are_those_of_the_sparsifier_within() -> None:
    for inner in (vl.TopK(2), vl.BatchTopK(2), vl.ReLU()):
        ours, its = vl.Matryoshka(inner, [1, 3])(Z, Z, Draw()), inner(Z, Z, Draw())
        assert torch.equal(ours.dense(), its.dense())


def test_threshold_target_and_penalty_are_those_of_the_sparsifier_within() -> None:
    inner = vl.BatchTopK(1)
    sparsifier = vl.Matryoshka(inner, [2])
    sparsifier.fit_to(4)
    draw = Draw()
    latents = sparsifier(Z, Z, draw)
    assert sparsifier.target_l0(draw) == 1
    assert sparsifier.gate_threshold(Z, latents, draw).tolist() == [[3.0], [3.0]]  # 4 and 3 are selected
    sparsifier.calibrate([Z], len(Z))
    assert (inner.threshold.value < Z).sum() == len(Z)
    assert sparsifier.penalty(Z, latents, torch.tensor([1.0, 10.0, 1.0, 1.0])).tolist() == [3.0, 40.0]
    jump = vl.JumpReLU(0.5)
    nested = vl.Matryoshka(jump, [2])
    nested.fit_to(4)
    jump.log_threshold.data.fill_(3.0)
    nested.reset_(torch.tensor([True, False, False, False]))
    torch.testing.assert_close(jump.log_threshold.exp()[0], torch.tensor(0.5))
    assert jump.log_threshold[1:].tolist() == [3.0, 3.0, 3.0]
    assert [nested.needs_penalty, nested.samples, nested.has_gate] == [True, False, True]
    assert vl.Matryoshka(vl.ProbabilisticTopK(2, 1.0), [2]).samples
    assert not vl.Matryoshka(vl.TopK(2, by="magnitude"), [2]).has_gate


@pytest.mark.parametrize("sizes", [[], [0, 2], [3, 3], [3, 2], [-1]])
def test_bad_sizes_are_refused(sizes: list[int]) -> None:
    with pytest.raises(vl.InputError, match="Matryoshka: sizes is"):
        vl.Matryoshka(vl.TopK(2), sizes)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: vl.SAE(4, 8, vl.Matryoshka(vl.TopK(2), [4, 8])), "sizes ends with 8; .* d_sae, 8"),
        (lambda: vl.SAE(4, 8, vl.Matryoshka(vl.TopK(9), [4])), "TopK: k is 9, more than the 8 latents"),
        (lambda: vl.Matryoshka(vl.Matryoshka(vl.TopK(2), [2]), [4]), "its sparsifier is a Matryoshka too"),
        (lambda: vl.SAE(4, 8, vl.Matryoshka(vl.JumpReLU(), [4])), "sparsity_weight is 0"),
    ],
)
def test_what_does_not_fit_is_refused(build: Any, message: str) -> None:
    with pytest.raises(vl.InputError, match=message):
        build()

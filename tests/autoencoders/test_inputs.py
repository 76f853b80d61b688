"""What an autoencoder takes: the right width in any precision, compiled or under torch.func; and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vsae_lightning as vl

D_IN, D_SAE = 32, 64
SPARSIFIERS: dict[str, Callable[[], vl.Sparsifier]] = {
    "topk": lambda: vl.TopK(4),
    "most of few": lambda: vl.TopK(30),
    "magnitude": lambda: vl.TopK(4, by="magnitude"),
    "batch": lambda: vl.BatchTopK(4),
    "jump": vl.JumpReLU,
    "gated": vl.Gated,
    "relu": vl.ReLU,
    "dense": vl.Dense,
    "nested": lambda: vl.Matryoshka(vl.TopK(4), [8]),
}


def made(kind: str = "topk", pre_bias: bool = True) -> vl.SparseAutoencoder:
    return vl.SparseAutoencoder(D_IN, D_SAE, SPARSIFIERS[kind](), pre_bias=pre_bias).eval()


def rows() -> Tensor:
    return torch.randn(5, D_IN, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(8, 64), (8, 16), (32, 8)])
def test_another_width_and_a_transposed_x_are_refused(shape: tuple[int, ...]) -> None:
    autoencoder = made()
    for call in (autoencoder, autoencoder.encode):
        with pytest.raises(vl.InputError) as error:
            call(torch.zeros(shape))
        expected = f"x is {list(shape)}; its last dimension must be d_in, 32. Is it transposed?"
        assert str(error.value) == expected


@pytest.mark.parametrize("shape", [(8, 32), (64, 8)])
def test_latents_of_another_width_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(vl.InputError, match="its last dimension must be d_sae, 64"):
        made().decode(torch.zeros(shape))


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (0,)])
def test_the_right_width_has_any_leading_dimensions(leading: tuple[int, ...]) -> None:
    x = torch.zeros(*leading, D_IN)
    autoencoder = made()
    assert autoencoder(x).shape == x.shape
    assert autoencoder.decode(autoencoder.encode(x)).shape == x.shape


@pytest.mark.parametrize("pre_bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", ["topk", "batch", "jump"])
def test_x_of_any_precision_is_computed_in_that_of_the_weights(kind: str, dtype: torch.dtype, pre_bias: bool) -> None:
    autoencoder, x = made(kind, pre_bias), rows().to(dtype)
    assert torch.equal(autoencoder.encode(x), autoencoder.encode(x.float()))
    assert torch.equal(autoencoder(x), autoencoder(x.float()))
    latents = autoencoder.encode(x).to(dtype)
    assert torch.equal(autoencoder.decode(latents), autoencoder.decode(latents.float()))


@pytest.mark.parametrize("kind", SPARSIFIERS)
def test_torch_func_gives_what_autograd_gives(kind: str) -> None:
    autoencoder, x = made(kind), rows()
    jacobian = torch.autograd.functional.jacobian(autoencoder, x[0])
    torch.testing.assert_close(torch.func.jacrev(autoencoder)(x[0]), jacobian)
    torch.testing.assert_close(torch.func.jacfwd(autoencoder)(x[0]), jacobian)
    torch.testing.assert_close(torch.func.vmap(autoencoder)(x), autoencoder(x))
    torch.testing.assert_close(torch.func.vmap(torch.func.jacrev(autoencoder))(x)[0], jacobian)


def test_a_compiled_autoencoder_is_saved_as_the_plain_one(tmp_path: Path) -> None:
    autoencoder = made()
    compiled: Any = torch.compile(autoencoder, backend="eager")
    vl.save(compiled, tmp_path / "compiled")
    assert torch.equal(vl.load(tmp_path / "compiled")(rows()), autoencoder(rows()))

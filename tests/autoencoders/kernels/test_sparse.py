"""Sparse kernels against sums written out in float64, in C and in PyTorch alone, with their gradients."""

import shutil
from collections.abc import Callable, Iterator
from itertools import product
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from vsae_lightning.autoencoders import kernels
from vsae_lightning.autoencoders.kernels import native, reference, sparse, triton

SHAPES = {  # batch, d_in, d_sae, k
    "usual": (40, 24, 300, 7),
    "one latent kept": (9, 5, 130, 1),
    "all kept": (6, 8, 33, 33),
    "one row": (1, 16, 200, 12),
    "a whole number of tiles": (7, 12, 256, 5),
    "fewer latents than a block": (5, 3, 6, 2),
    "more kept than in a tile": (4, 6, 100, 40),
    "d_in 1": (8, 1, 50, 3),
}


@pytest.fixture(params=["reference", "C", "PyTorch"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if request.param == "PyTorch":
        monkeypatch.setattr(native, "library", lambda: "switched off")
    if request.param == "C" and shutil.which("cc") is None:
        pytest.skip("no C compiler")
    if request.param == "C":
        assert native.serves(torch.zeros(1)), native.library()
    monkeypatch.setattr(sparse, "TILE_NUMBERS", {"cpu": 60})  # several tiles, the last one not full
    monkeypatch.setattr(sparse, "FEWEST_LATENTS", 5)
    return reference if request.param == "reference" else sparse


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_indices(batch: int, k: int, d_sae: int) -> Tensor:
    """Any, in any order, some twice in a row."""
    return torch.randint(d_sae, (batch, k), generator=torch.Generator().manual_seed(1))


def close(ours: Tensor, expected: Tensor) -> None:
    scale = max(float(expected.abs().max()), 1e-6)
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=2e-6 * scale)


@pytest.mark.parametrize(("shape", "magnitude"), list(product(SHAPES, [False, True])))
def test_the_largest_are_found(kernel: Any, shape: str, magnitude: bool) -> None:
    batch, d_in, d_sae, k = SHAPES[shape]
    x, W, b = normal(batch, d_in), normal(d_sae, d_in, seed=1).T, normal(d_sae, seed=2)
    values, indices = kernel.topk_of_linear(x, W, b, k, magnitude)
    pre_acts = x.double() @ W.double() + b.double()
    rank = pre_acts.abs() if magnitude else pre_acts
    close(rank.gather(-1, indices).sort(descending=True).values, rank.sort(descending=True).values[:, :k])
    close(values, pre_acts.gather(-1, indices))
    assert all(len(set(row)) == k for row in indices.tolist())


def test_of_equal_scores_exactly_k_are_kept(kernel: Any) -> None:
    x, W, b = torch.zeros(3, 4), normal(4, 100), torch.zeros(100)
    b[[50, 90]] = 1
    values, indices = kernel.topk_of_linear(x, W, b, 5)
    assert values.sort().values.tolist() == [[0, 0, 0, 1, 1]] * 3
    assert all(len(set(row)) == 5 and {50, 90} < set(row) for row in indices.tolist())


def test_what_is_not_a_number_is_found_whatever_its_sign(kernel: Any) -> None:
    x, W, b = torch.zeros(2, 4), normal(4, 100), torch.zeros(100)
    b[17], b[60] = torch.nan, -torch.tensor(torch.nan)
    for magnitude in (False, True):
        values, indices = kernel.topk_of_linear(x, W, b, 3, magnitude)
        assert values.isnan().sum(-1).tolist() == [2, 2]
        assert all({17, 60} < set(row) for row in indices.tolist())


def test_a_row_of_nothing_but_nan_keeps_k_latents(kernel: Any) -> None:
    values, indices = kernel.topk_of_linear(torch.full((1, 2), torch.nan), normal(2, 60), torch.zeros(60), 4)
    assert values.isnan().all()
    assert len(set(indices[0].tolist())) == 4


def test_infinities_are_ordered_with_the_rest(kernel: Any) -> None:
    b = torch.arange(50.0)
    b[3], b[49] = torch.inf, -torch.inf
    _, indices = kernel.topk_of_linear(torch.zeros(1, 2), torch.zeros(2, 50), b, 3)
    assert set(indices[0].tolist()) == {3, 48, 47}


def test_what_comes_late_is_ordered_with_what_came_first(kernel: Any) -> None:
    """Two rows, tiles of 30 latents: equal scores, infinity and NaN after k are kept; then nothing can win any more."""
    b = torch.zeros(150)
    b[[5, 40, 100]], b[[70, 120]], b[149], b[130] = 1.0, torch.inf, torch.nan, 0.5
    zeros, W = torch.zeros(2, 4), torch.zeros(4, 150)
    for k, expected in ((1, {149}), (3, {149, 70, 120}), (5, {149, 70, 120, 5, 40})):
        _, indices = kernel.topk_of_linear(zeros, W, b, k)
        found = set(indices[0].tolist())
        assert found == expected or (k == 5 and len(found & {5, 40, 100}) == 2)  # PyTorch may keep another of equals
    _, indices = kernel.topk_of_linear(zeros, W, torch.full((150,), torch.nan), 4)
    assert len(set(indices[1].tolist())) == 4


def test_in_c_the_first_of_equal_scores_are_kept() -> None:
    scores = torch.tensor([[1.0, 2.0, 2.0, 0.0, 2.0, 2.0, 1.0, 2.0]])
    assert sparse.topk_indices(scores, 3).tolist() == [[1, 2, 4]]


@pytest.mark.parametrize("shape", SHAPES)
def test_sparse_products(kernel: Any, shape: str) -> None:
    batch, d_in, d_sae, k = SHAPES[shape]
    W, g, values = normal(d_sae, d_in), normal(batch, d_in, seed=3), normal(batch, k, seed=4)
    indices = some_indices(batch, k, d_sae)
    decoded = torch.zeros(batch, d_in, dtype=torch.double)
    gradient = torch.zeros(d_sae, d_in, dtype=torch.double)
    for row, i in product(range(batch), range(k)):
        decoded[row] += values[row, i].double() * W[indices[row, i]].double()
        gradient[indices[row, i]] += values[row, i].double() * g[row].double()
    close(kernel.decode(values, indices, W), decoded)
    close(kernel.weight_gradient(values, indices, g, d_sae), gradient)
    close(kernel.dot_at(g, W, indices), (g.double() @ W.double().T).gather(-1, indices))


def test_indices_may_be_short() -> None:
    W, g, values, indices = normal(50, 4), normal(6, 4), normal(6, 3), some_indices(6, 3, 50)
    assert torch.equal(sparse.dot_at(g, W, indices.int()), sparse.dot_at(g, W, indices))
    short, long = (sparse.weight_gradient(values, given, g, 50) for given in (indices.int(), indices))
    assert torch.equal(short, long)


def test_an_index_that_is_no_latent_is_refused() -> None:
    with pytest.raises(IndexError, match="not that of one of 50 latents"):
        native.weight_gradient(torch.ones(1, 1), torch.tensor([[50]]), torch.ones(1, 4), 50)


def test_nothing_comes_of_zeros(kernel: Any) -> None:
    W, indices = normal(50, 4), some_indices(6, 3, 50)
    assert not kernel.decode(torch.zeros(6, 3), indices, W).any()
    assert not kernel.weight_gradient(torch.zeros(6, 3), indices, normal(6, 4), 50).any()
    assert not kernel.weight_gradient(normal(6, 3), indices, torch.zeros(6, 4), 50).any()


def test_rows_apart_in_memory_are_read_right(kernel: Any) -> None:
    """Weights may lie row by row or column by column, and a batch may be a slice of another."""
    x, W, b = normal(20, 16)[::2, ::2], normal(8, 60), normal(60)
    expected = (x.double() @ W.double() + b.double()).topk(4)
    for weights in (W, W.T.contiguous().T):
        values, _ = kernel.topk_of_linear(x, weights, b, 4)
        close(values.sort(descending=True).values, expected.values)
        indices = expected.indices
        close(kernel.dot_at(x, weights.T, indices), (x.double() @ W.double()).gather(-1, indices))
        close(
            kernel.weight_gradient(values[:, :2], indices[:, :2], x, 60), _scattered(values, indices, 60).T @ x.double()
        )


def _scattered(values: Tensor, indices: Tensor, d_sae: int) -> Tensor:
    zeros = torch.zeros(len(values), d_sae, dtype=torch.double)
    return zeros.scatter_add(-1, indices[:, :2], values[:, :2].double())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_computed_in_pytorch(dtype: torch.dtype) -> None:
    x, W, b = normal(30, 16).to(dtype), normal(200, 16).to(dtype).T, normal(200).to(dtype)
    values, indices = sparse.topk_of_linear(x, W, b, 6)
    assert values.dtype == dtype
    expected = torch.addmm(b.double(), x.double(), W.double()).gather(-1, indices)
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-12
    torch.testing.assert_close(values.double(), expected, rtol=tolerance, atol=tolerance)
    assert sparse.dot_at(x, W.T, indices).dtype == dtype


@pytest.mark.parametrize(("k", "with_center"), [(2, True), (2, False), (10, True)])
def test_gradients_of_the_encoding_and_the_decoding(k: int, with_center: bool) -> None:
    """By finite differences in float64: 2 of 17 latents are sparse products, 10 dense ones."""
    x, center = normal(5, 4).double(), normal(4, seed=9).double() if with_center else None
    W, b, values = normal(4, 17, seed=1).double(), normal(17, seed=2).double(), normal(5, k, seed=3).double()
    indices = normal(5, 17, seed=6).topk(k).indices

    def encode(*arguments: Tensor) -> Tensor:
        inputs, W, b, *center = arguments
        return kernels.linear_at(inputs, center[0] if center else None, W, b, indices)

    arguments = [x, W, b] if center is None else [x, W, b, center]
    assert gradcheck(encode, [argument.requires_grad_() for argument in arguments])
    assert gradcheck(lambda v, W: kernels.decode(v, indices, W.T), [values.requires_grad_(), W])


@pytest.mark.parametrize("in_c", [True, False])
def test_gradients_in_float32_are_those_of_dense_products(in_c: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not in_c:
        monkeypatch.setattr(native, "library", lambda: "switched off")
    x, W, b, center = normal(50, 8), normal(8, 400, seed=1), normal(400, seed=2), normal(8, seed=3)
    W_dec = normal(400, 8, seed=5)
    indices = torch.addmm(b, x - center, W).topk(6).indices
    weights = [W, b, center, W_dec]

    def gradients(reconstruct: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        given = [weight.detach().to(dtype).requires_grad_() for weight in weights]
        error = (reconstruct(x.to(dtype), *given) - x.to(dtype)).square().sum()
        return list(torch.autograd.grad(error, given))

    def by_kernels(x: Tensor, W: Tensor, b: Tensor, center: Tensor, W_dec: Tensor) -> Tensor:
        return kernels.decode(kernels.linear_at(x, center, W, b, indices).relu(), indices, W_dec)

    def dense(x: Tensor, W: Tensor, b: Tensor, center: Tensor, W_dec: Tensor) -> Tensor:
        pre_acts = ((x - center) @ W + b).relu()
        return torch.zeros_like(pre_acts).scatter(-1, indices, pre_acts.gather(-1, indices)) @ W_dec

    for ours, expected in zip(gradients(by_kernels, torch.float32), gradients(dense, torch.float64), strict=True):
        close(ours, expected)


def test_values_that_are_known_are_not_computed_again() -> None:
    x, W, b, indices = normal(3, 4), normal(4, 20), normal(20), some_indices(3, 2, 20)
    known = normal(3, 2, seed=8)
    assert torch.equal(kernels.linear_at(x, None, W, b, indices, known), known)


def test_few_of_many_are_sparse_and_many_of_few_are_dense() -> None:
    assert kernels.kernels_for(torch.ones(1), 64, 4096) is sparse
    assert kernels.kernels_for(torch.ones(1), 64, 64) is reference


def test_the_description_says_what_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    given = (torch.ones(1), 64, 4096)
    assert kernels.description(*given) == "Sparse products in C."
    assert kernels.description(torch.ones(1), 64, 256) == "Dense products: 64 of 256 latents are kept."
    monkeypatch.setattr(native, "library", lambda: "cc failed: no such file")
    assert kernels.description(*given) == "Sparse products in PyTorch alone: cc failed: no such file."


@pytest.fixture
def undecided() -> Iterator[None]:
    """What a device uses is decided anew, and afterwards again."""
    kernels._sparse_kernels.cache_clear()
    yield
    kernels._sparse_kernels.cache_clear()


@pytest.mark.usefixtures("undecided")
def test_triton_computes_on_a_gpu_where_its_results_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "usable", lambda device, dtype: None)
    assert kernels._sparse_kernels("cuda", torch.bfloat16) is triton
    assert kernels._sparse_kernels("cuda", torch.float64) is sparse  # Triton's sums are of float32
    monkeypatch.setattr(kernels, "_sparse_kernels", lambda device, dtype: triton)
    assert kernels.kernels_for(torch.ones(1), 512, 2**14) is triton
    assert kernels.kernels_for(torch.ones(1), 513, 2**14) is sparse  # more than it can keep
    assert kernels.description(torch.ones(1), 64, 2**14) == "Sparse products by Triton kernels."


@pytest.mark.usefixtures("undecided")
def test_a_gpu_on_which_triton_is_wrong_uses_pytorch_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(triton, "usable", lambda device, dtype: "wrong result of decode")
    assert kernels._sparse_kernels("cuda", torch.float32) is sparse
    assert caplog.messages == ["Triton's kernels are not used: wrong result of decode."]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inner_products_in_inference_mode(dtype: torch.dtype) -> None:
    """Where a trainer evaluates; bfloat16 has no kernel in C, and what stands in for it asks autograd."""
    chance = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        g, W_dec = (torch.randn(rows, 8, generator=chance).to(dtype) for rows in (5, 20))
        indices = torch.randint(0, 20, (5, 3), generator=chance)
        torch.testing.assert_close(sparse.dot_at(g, W_dec, indices), reference.dot_at(g, W_dec, indices))

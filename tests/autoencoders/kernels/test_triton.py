"""The Triton kernels do what their formulas say: compiled where there is a GPU, else through Triton's interpreter."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import Tensor

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed; pip install -e '.[dev]' brings it on Linux", allow_module_level=True)

import interpreted_triton
from vsae_lightning.autoencoders.kernels import triton as kernels
from vsae_lightning.autoencoders.kernels import triton_programs

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: the kernels are compiled for it")
DTYPES = [torch.float32, torch.bfloat16]
# batch, d_in, d_sae, k: one row; one latent; all latents; widths that are no multiple of a tile; the largest k.
SIZES = [(1, 16, 70, 1), (3, 24, 96, 96), (20, 33, 300, 5), (5, 48, 515, 64), (2, 16, 600, 512), (1, 1, 1, 1)]
PAIRS = [(1, 16, 30, 1), (3, 33, 20, 20), (7, 48, 50, 6), (1, 5, 1, 1)]


@pytest.fixture(autouse=True, scope="module")
def interpreted() -> Iterator[None]:
    with nullcontext() if DEVICE.type == "cuda" else interpreted_triton.interpreted(triton_programs):
        yield


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    value: torch.dtype = request.param
    return value


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def whole(*shape: int, seed: int = 0, most: int = 3) -> Tensor:
    """Whole numbers: their sums of products are exact in float32, and often equal."""
    return torch.randint(-most, most + 1, shape, generator=torch.Generator().manual_seed(seed)).float().to(DEVICE)


def some_indices(rows: int, k: int, d_sae: int, seed: int = 0) -> Tensor:
    """Which may repeat."""
    return torch.randint(d_sae, (rows, k), generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def expected_topk(x: Tensor, W: Tensor, b: Tensor, k: int, magnitude: bool) -> tuple[Tensor, Tensor]:
    """Values and indices in float64, the first of equal ones first, in order of the indices."""
    z = x.double() @ W.double() + b.double()
    score = z.abs() if magnitude else z
    indices = score.sort(dim=-1, descending=True, stable=True).indices[:, :k].sort(dim=-1).values
    return z.gather(-1, indices), indices


def assert_topk(x: Tensor, W: Tensor, b: Tensor, k: int, magnitude: bool = False) -> None:
    """Of whole numbers: the same entries, and the values to the bit."""
    values, indices = kernels.topk_of_linear(x, W, b, k, magnitude)
    expected, where = expected_topk(x, W, b, k, magnitude)
    assert values.dtype == x.dtype
    found, order = indices.sort(dim=-1)
    assert torch.equal(found, where)
    assert torch.equal(values.gather(-1, order), expected.to(x.dtype))


@pytest.mark.parametrize("magnitude", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_topk_is_that_of_the_product(size: tuple[int, ...], magnitude: bool, dtype: torch.dtype) -> None:
    batch, d_in, d_sae, k = size
    x, W = whole(batch, d_in).to(dtype), whole(d_sae, d_in, seed=1).to(dtype).T
    assert_topk(x, W, whole(d_sae, seed=2).to(dtype), k, magnitude)


def test_topk_of_real_numbers() -> None:
    x, W, b = random(20, 33), random(400, 33, seed=1).T, random(400, seed=2)
    values, indices = kernels.topk_of_linear(x, W, b, 12)
    z = x.double() @ W.double() + b.double()
    torch.testing.assert_close(values.double(), z.gather(-1, indices), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(values.sort(descending=True).values.double(), z.topk(12).values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_topk_does_not_depend_on_how_many_rows_are_at_once(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "NUMBERS_AT_ONCE", 900 * rows)
    assert_topk(whole(3, 17), whole(900, 17, seed=1).T, whole(900, seed=2), 20)


@pytest.mark.parametrize("order", ["rising", "falling", "equal"])
def test_topk_of_ordered_latents(order: str) -> None:
    b = {"rising": torch.arange(1500), "falling": -torch.arange(1500), "equal": torch.zeros(1500)}[order]
    assert_topk(torch.zeros(2, 16, device=DEVICE), whole(1500, 16).T, b.float().to(DEVICE), 9)


def test_a_late_latent_wins_by_the_last_bit() -> None:
    b = torch.zeros(1500, device=DEVICE)
    b[:9], b[1000:1009] = 1, 1 + torch.finfo(torch.float32).eps
    assert_topk(torch.zeros(2, 16, device=DEVICE), whole(1500, 16).T, b, 9)


@pytest.mark.parametrize("magnitude", [False, True])
def test_topk_where_the_largest_are_all_of_one_group(magnitude: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far more than are kept reach the maxima of the other groups: of row 0 forty, of row 1 all, which are equal."""
    monkeypatch.setattr(kernels, "TILE", 64)
    z = torch.zeros(3, 40 * 64, device=DEVICE)
    z[0] = torch.rand(40 * 64, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    z[0, 5::64] = 2 + torch.arange(40, device=DEVICE) % 7
    z[2, 100] = -1
    values, indices = kernels.topk(z, 3, magnitude)
    assert sorted(indices[0].tolist()) == [5 + 64 * place for place in (6, 13, 20)]
    assert indices[1].tolist() == [0, 1, 2]
    assert sorted(indices[2].tolist()) == ([0, 1, 100] if magnitude else [0, 1, 2])
    assert torch.equal(values, z.gather(-1, indices))


@pytest.mark.parametrize("k", [1, 16, 17, 300])
def test_topk_of_scores_of_any_strides(k: int, dtype: torch.dtype) -> None:
    for z in (random(5, 1400).to(dtype), random(700, 5).to(dtype).T, random(5, 1400).to(dtype)[::2, 100:]):
        values, indices = kernels.topk(z, k)
        expected = z.double().sort(descending=True, stable=True)
        assert torch.equal(values.double().sort(descending=True).values, expected.values[:, :k])
        assert torch.equal(indices.sort().values, expected.indices[:, :k].sort().values)
        assert torch.equal(values, z.gather(-1, indices))


def test_triton_serves_a_gpu_alone() -> None:
    assert kernels.serves(random(2, 30), 3) == (DEVICE.type == "cuda")
    assert not kernels.serves(random(2, 600), 513)
    assert not kernels.serves(random(2, 30).double(), 3)


@pytest.mark.parametrize("magnitude", [False, True])
def test_topk_of_a_zero_input_and_of_ties(magnitude: bool, dtype: torch.dtype) -> None:
    zero = torch.zeros(2, 20, dtype=dtype, device=DEVICE)
    W = whole(150, 20, most=1).to(dtype).T
    assert_topk(zero, W, torch.zeros(150, dtype=dtype, device=DEVICE), 7, magnitude)
    assert_topk(zero + 1, W, torch.zeros(150, dtype=dtype, device=DEVICE), 140, magnitude)


def test_topk_of_any_strides() -> None:
    b = whole(130, seed=3)
    assert_topk(whole(18, 5).T, whole(18, 260)[:, ::2], b, 6)
    assert_topk(whole(5, 36)[:, 1::2], whole(130, 18).T, whole(260, seed=3)[::2], 6)


@pytest.mark.parametrize("magnitude", [False, True])
def test_topk_of_nan_and_infinity(magnitude: bool, dtype: torch.dtype) -> None:
    """A row of NaN spoils no other row; infinity is smaller than NaN."""
    x, W, b = whole(4, 16).to(dtype), whole(200, 16, seed=1).to(dtype).T, whole(200, seed=2).to(dtype)
    others = kernels.topk_of_linear(x, W, b, 5, magnitude)
    x[1, 3] = torch.nan
    values, indices = kernels.topk_of_linear(x, W, b, 5, magnitude)
    assert values[1].isnan().all()
    assert len(set(indices[1].tolist())) == 5
    assert (indices >= 0).all()
    assert (indices < 200).all()
    for changed, before in zip((values, indices), others, strict=True):
        assert torch.equal(changed[[0, 2, 3]], before[[0, 2, 3]])
    b[[7, 9, 11]] = torch.tensor([-torch.nan, torch.inf, -torch.inf], dtype=dtype, device=DEVICE)
    _, indices = kernels.topk_of_linear(x[:1], W, b, 2, magnitude)
    assert set(indices[0].tolist()) == {7, 9}
    if magnitude:
        values, indices = kernels.topk_of_linear(x[:1], W, b, 3, magnitude)
        assert values[indices == 11].item() == -torch.inf


@pytest.mark.parametrize("k", [0, 31, 513])
def test_topk_refuses_k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match=f"k is {k}"):
        kernels.topk_of_linear(whole(2, 4), whole(30 if k < 512 else 600, 4).T, whole(30 if k < 512 else 600), k)


def test_no_rows() -> None:
    values, indices = kernels.topk_of_linear(whole(0, 4), whole(30, 4).T, whole(30), 3)
    assert values.shape == indices.shape == (0, 3)
    assert kernels.decode(values, indices, whole(30, 4)).shape == (0, 4)
    assert kernels.dot_at(whole(0, 4), whole(30, 4), indices).shape == (0, 3)
    assert torch.equal(kernels.weight_gradient(values, indices, whole(0, 4), 30), torch.zeros(30, 4, device=DEVICE))


def assert_close(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Of a sum in float32, rounded once to `dtype`."""
    assert actual.dtype == dtype
    rtol = 1e-5 if dtype == torch.float32 else 2**-8
    torch.testing.assert_close(actual.double(), expected.double(), rtol=rtol, atol=1e-5)


def decoded(values: Tensor, indices: Tensor, W_dec: Tensor) -> Tensor:
    return (values.double()[..., None] * W_dec.double()[indices]).sum(1)


@pytest.mark.parametrize("size", PAIRS, ids=str)
def test_decode_sums_rows(size: tuple[int, ...], dtype: torch.dtype) -> None:
    batch, d_in, d_sae, k = size
    values, W_dec = random(batch, k).to(dtype), random(d_sae, d_in, seed=1).to(dtype)
    indices = some_indices(batch, k, d_sae)
    assert_close(kernels.decode(values, indices, W_dec), decoded(values, indices, W_dec), dtype)
    assert_close(kernels.decode(values.float(), indices, W_dec), decoded(values, indices, W_dec), dtype)
    assert not kernels.decode(torch.zeros_like(values), indices, W_dec).any()


@pytest.mark.parametrize("size", PAIRS, ids=str)
def test_dot_at_is_of_the_rows(size: tuple[int, ...], dtype: torch.dtype) -> None:
    batch, d_in, d_sae, k = size
    g, W_dec = random(batch, d_in).to(dtype), random(d_sae, d_in, seed=1).to(dtype)
    indices = some_indices(batch, k, d_sae)
    expected = (g.double()[:, None] * W_dec.double()[indices]).sum(-1)
    assert_close(kernels.dot_at(g, W_dec, indices), expected, dtype)
    assert not kernels.dot_at(torch.zeros_like(g), W_dec, indices).any()


def gradient(values: Tensor, indices: Tensor, x: Tensor, d_sae: int) -> Tensor:
    dense = torch.zeros(len(x), d_sae, dtype=torch.float64, device=x.device)
    return dense.scatter_add(-1, indices, values.double()).T @ x.double()


@pytest.mark.parametrize("size", PAIRS, ids=str)
def test_weight_gradient_sums_the_rows_of_each_latent(size: tuple[int, ...], dtype: torch.dtype) -> None:
    batch, d_in, d_sae, k = size
    values, x, indices = (
        random(batch, k).to(dtype),
        random(batch, d_in, seed=1).to(dtype),
        some_indices(batch, k, d_sae),
    )
    found = kernels.weight_gradient(values, indices, x, d_sae)
    assert_close(found, gradient(values, indices, x, d_sae), dtype)
    unused = torch.ones(d_sae, dtype=torch.bool, device=DEVICE).scatter(0, indices.flatten(), False)
    assert torch.equal(found[unused], torch.zeros_like(found[unused]))
    assert not kernels.weight_gradient(torch.zeros_like(values), indices, x, d_sae).any()


@pytest.mark.parametrize("frequent", [0, 3, 5], ids=["first", "middle", "last"])
def test_weight_gradient_of_a_frequent_latent(frequent: int) -> None:
    """Whose pairs fill whole pieces, with some before and after; the same in every call."""
    values, x, indices = random(150, 2), random(150, 20, seed=1), some_indices(150, 2, 6)
    indices[:, 0] = frequent
    found = kernels.weight_gradient(values, indices, x, 6)
    assert_close(found, gradient(values, indices, x, 6), torch.float32)
    assert torch.equal(found, kernels.weight_gradient(values, indices, x, 6))


def test_sums_of_any_strides() -> None:
    values, indices = random(3, 10)[:, ::2], some_indices(3, 10, 9)[:, ::2]
    wide, x = random(20, 9).T, random(20, 3, seed=1).T
    assert_close(kernels.decode(values, indices, wide), decoded(values, indices, wide), torch.float32)
    assert_close(kernels.dot_at(x, wide, indices), (x.double()[:, None] * wide.double()[indices]).sum(-1), x.dtype)
    assert_close(kernels.weight_gradient(values, indices, x, 9), gradient(values, indices, x, 9), torch.float32)


def test_sums_with_short_indices() -> None:
    values, indices, W_dec, x = random(3, 5), some_indices(3, 5, 9), random(9, 20), random(3, 20, seed=1)
    short = indices.int()
    assert torch.equal(kernels.decode(values, short, W_dec), kernels.decode(values, indices, W_dec))
    assert torch.equal(kernels.dot_at(x, W_dec, short), kernels.dot_at(x, W_dec, indices))
    assert torch.equal(kernels.weight_gradient(values, short, x, 9), kernels.weight_gradient(values, indices, x, 9))


def test_usable_tries_every_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.usable(DEVICE, torch.float32) is None
    assert kernels.usable(DEVICE, torch.bfloat16) is None
    wrong: Callable[..., Tensor] = lambda values, indices, W_dec: torch.zeros_like(W_dec[: len(values)])  # noqa: E731
    monkeypatch.setattr(kernels, "decode", wrong)
    assert kernels.usable(DEVICE, torch.float32) is None  # tried once
    monkeypatch.delitem(kernels.CHECKS, "topk_of_linear")  # the longest, which is right above
    assert kernels.usable.__wrapped__(DEVICE, torch.float32) == "wrong result of decode"


def test_usable_says_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Tensor) -> bool:
        raise RuntimeError("first line\nno such instruction")

    monkeypatch.setattr(kernels, "CHECKS", {"decode": failing})
    assert kernels.usable.__wrapped__(DEVICE, torch.float32) == "a kernel failed with RuntimeError: no such instruction"
    monkeypatch.setitem(sys.modules, "triton", None)
    assert kernels.usable.__wrapped__(DEVICE, torch.float32) == "triton is not installed"


def test_the_package_works_without_triton() -> None:
    code = (
        "import sys, torch, vsae_lightning, vsae_lightning.autoencoders.kernels.triton as kernels\n"
        "assert 'triton' not in sys.modules\n"
        "sys.modules['triton'] = None\n"
        "assert kernels.usable(torch.device('cpu'), torch.float32) == 'triton is not installed'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("k", [32, 64, 512])
def test_topk_of_a_large_problem_on_a_gpu(k: int, dtype: torch.dtype) -> None:
    x, W = whole(1030, 512, most=1).to(dtype), whole(20_000, 512, seed=1, most=1).to(dtype).T
    assert_topk(x, W, whole(20_000, seed=2).to(dtype), k)


@needs_gpu
@pytest.mark.gpu
def test_sums_of_a_large_problem_on_a_gpu(dtype: torch.dtype) -> None:
    values, indices = random(4096, 64).to(dtype), some_indices(4096, 64, 16_384)
    x, W_dec = random(4096, 512, seed=1).to(dtype), random(16_384, 512, seed=2).to(dtype)
    indices[:, 0] = 5
    rtol, atol = (1e-3, 1e-3) if dtype == torch.float32 else (2**-7, 0.05)
    assert_close = partial(torch.testing.assert_close, rtol=rtol, atol=atol)
    expected = torch.nn.functional.embedding_bag(
        indices, W_dec.double(), per_sample_weights=values.double(), mode="sum"
    )
    assert_close(kernels.decode(values, indices, W_dec).double(), expected)
    dots = (x.double() @ W_dec.double().T).gather(-1, indices)
    assert_close(kernels.dot_at(x, W_dec, indices).double(), dots)
    found = kernels.weight_gradient(values, indices, x, 16_384)
    assert_close(found.double(), gradient(values, indices, x, 16_384))

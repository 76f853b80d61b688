"""The Triton kernels of the sparse hot path: are they right on this device, and how long do they take?"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.gpu_timing import Line, Problem, Work, median_milliseconds, roofline
from vsae_lightning.autoencoders.kernels import triton as kernels


class Inputs(NamedTuple):
    """A batch, the weights of an autoencoder, and k latents of every row."""

    x: Tensor
    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    values: Tensor
    indices: Tensor


class Contest(NamedTuple):
    """One computation by its kernel and by plain PyTorch, and the work that both have to do."""

    kernel: Callable[[], object]
    plain: Callable[[], object]
    work: Work


def inputs(problem: Problem) -> Inputs:
    """Standard normal, with an encoder that is latent-major in memory; a twentieth of the pairs is of one latent."""
    numbers = torch.Generator(problem.device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=numbers, device=problem.device).to(problem.dtype)

    pairs = (problem.batch, problem.k)
    indices = torch.randint(problem.d_sae, pairs, generator=numbers, device=problem.device)
    indices[torch.rand(pairs, generator=numbers, device=problem.device) < 0.05] = 0
    W_dec = normal(problem.d_sae, problem.d_in) / problem.d_in**0.5
    x, b_enc, values = normal(problem.batch, problem.d_in), normal(problem.d_sae) / 10, normal(*pairs)
    return Inputs(x, W_dec.clone().T, b_enc, W_dec, values, indices)


def failures(problem: Problem) -> list[str]:
    """The kernels whose result on this problem is not that of their formula in float64, each with its error."""
    given = inputs(problem)
    x, W_dec, values = given.x.double(), given.W_dec.double(), given.values.double()
    empty = torch.zeros(problem.batch, problem.d_sae, dtype=torch.float64, device=problem.device)
    dense = empty.scatter_add(-1, given.indices, values)
    results = {
        "decode": (kernels.decode(given.values, given.indices, given.W_dec), dense @ W_dec),
        "dot_at": (kernels.dot_at(given.x, given.W_dec, given.indices), (x @ W_dec.T).gather(-1, given.indices)),
        "weight_gradient": (
            kernels.weight_gradient(given.values, given.indices, given.x, problem.d_sae),
            dense.T @ x,
        ),
    }
    z = x @ given.W_enc.double() + given.b_enc.double()
    for name, magnitude in (("topk_of_linear", False), ("topk_of_linear by magnitude", True)):
        found, where = kernels.topk_of_linear(given.x, given.W_enc, given.b_enc, problem.k, magnitude)
        if (where.sort().values.diff() <= 0).any():
            return [f"{name} in {problem.precision}: an index twice in a row"]
        score = z.abs() if magnitude else z
        # The k-th place may go to either of two that rounding cannot tell apart: compare ranks, not indices.
        ranked = score.gather(-1, where).sort(descending=True).values
        results[f"{name}, values"] = (found, z.gather(-1, where))
        results[f"{name}, ranks"] = (ranked, score.topk(problem.k).values)
    return [
        f"{name} in {problem.precision}: an error of {error:.1e} of the largest entry"
        for name, (actual, expected) in results.items()
        if not (error := relative_error(actual, expected)) <= (1e-5 if problem.precision == "fp32" else 1e-2)
    ]


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected).abs().max() / expected.abs().max())


def contests(problem: Problem) -> dict[str, Contest]:
    x, W_enc, b_enc, W_dec, values, indices = inputs(problem)
    d_sae, d_in, k, batch = problem.d_sae, problem.d_in, problem.k, problem.batch
    size, pairs = x.element_size(), batch * k
    rows, weights, selected = batch * d_in * size, d_sae * d_in * size, pairs * (size + 8)
    touched = min(pairs, d_sae) * d_in * size
    z = torch.addmm(b_enc, x, W_enc)
    return {
        "topk": Contest(
            lambda: kernels.topk(z, k),
            lambda: z.topk(k, dim=-1, sorted=False),
            Work(batch * d_sae * size + selected, 0),
        ),
        "topk_of_linear": Contest(
            lambda: kernels.topk_of_linear(x, W_enc, b_enc, k),
            lambda: torch.addmm(b_enc, x, W_enc).topk(k, dim=-1, sorted=False),
            Work(rows + weights + d_sae * size + selected, 2 * batch * d_in * d_sae),
        ),
        "decode": Contest(
            lambda: kernels.decode(values, indices, W_dec),
            lambda: F.embedding_bag(indices, W_dec, per_sample_weights=values, mode="sum"),
            Work(selected + touched + rows, 2 * pairs * d_in),
        ),
        "dot_at": Contest(
            lambda: kernels.dot_at(x, W_dec, indices),
            lambda: torch.bmm(W_dec[indices], x[..., None]).squeeze(-1),
            Work(rows + touched + selected, 2 * pairs * d_in),
        ),
        "weight_gradient": Contest(
            lambda: kernels.weight_gradient(values, indices, x, d_sae),
            lambda: torch.zeros_like(W_dec).index_add_(
                0, indices.flatten(), (values[..., None] * x[:, None]).flatten(0, 1)
            ),
            Work(selected + rows + weights, 2 * pairs * d_in),
        ),
    }


def kernel_lines(problem: Problem, device_name: str, repeats: int = 20) -> Iterator[Line]:
    for name, contest in contests(problem).items():
        limit = roofline(contest.work, problem.precision, device_name)
        for by, run in (("triton", contest.kernel), ("pytorch", contest.plain)):
            time = median_milliseconds(run, problem.device, repeats=repeats)
            yield Line(name, by, problem.precision, problem.d_sae, time, problem.batch, *contest.work, limit)

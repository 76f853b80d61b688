"""The benchmark for a machine with a GPU, as far as it can be tried without one: on tiny problems, on the CPU."""

import importlib.util
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed; pip install -e '.[dev]' brings it on Linux", allow_module_level=True)

import interpreted_triton
import vsae_lightning as vl
from benchmarks import gpu, gpu_steps
from benchmarks.gpu_kernels import contests, failures, kernel_lines
from benchmarks.gpu_timing import Line, Problem, Work, roofline
from vsae_lightning.autoencoders.kernels import triton, triton_programs

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TINY = Problem(100, torch.float32, DEVICE, d_in=16, k=6, batch=8)


@pytest.fixture(autouse=True, scope="module")
def interpreted() -> Iterator[None]:
    with nullcontext() if DEVICE.type == "cuda" else interpreted_triton.interpreted(triton_programs):
        yield


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "benchmarks.gpu needs a CUDA GPU, and there is none here.\n"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_right_kernels_pass_the_check(dtype: torch.dtype) -> None:
    assert failures(Problem(100, dtype, DEVICE, d_in=16, k=6, batch=8)) == []


def test_the_check_says_what_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu.found_wrong([TINY]) == []
    monkeypatch.setattr(gpu, "usable", lambda device, dtype: "triton is not installed")
    assert gpu.found_wrong([TINY]) == ["fp32: triton is not installed"]


def test_wrong_kernels_are_named_before_anything_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right, topk = triton.decode, triton.topk_of_linear
    monkeypatch.setattr(triton, "decode", lambda values, *rest: right(2 * values, *rest))
    monkeypatch.setattr(triton, "topk_of_linear", lambda x, W, b, k, magnitude=False: topk(x, W, b, k))
    names = [failure.partition(":")[0] for failure in failures(TINY)]
    assert names == ["decode in fp32", "topk_of_linear by magnitude, ranks in fp32"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a device")
    monkeypatch.setattr(gpu, "problems_to_check", lambda device: [TINY])
    monkeypatch.setattr(gpu, "usable", lambda device, dtype: None)  # which was decided by the right ones
    monkeypatch.setattr(gpu, "measure", lambda *_: pytest.fail("timed a wrong kernel"))
    with pytest.raises(SystemExit, match="wrong on this device: decode in fp32: an error of"):
        gpu.main()


def test_an_index_twice_in_a_row_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    topk = triton.topk_of_linear
    monkeypatch.setattr(triton, "topk_of_linear", lambda *given: [part[:, [0, 0, 2]] for part in topk(*given)])
    assert failures(TINY) == ["topk_of_linear in fp32: an index twice in a row"]


def test_work_and_roofline() -> None:
    """At d_sae 65,536 the product is bound by the tensor cores, the sums by memory."""
    work = contests(Problem(512, torch.bfloat16, DEVICE, d_in=16, k=4, batch=64))["topk_of_linear"].work
    assert work == Work(2 * (64 * 16 + 512 * 16 + 512) + 64 * 4 * 10, 2 * 64 * 16 * 512)
    product = Work(1e8, 2 * 4096 * 512 * 65_536)
    assert roofline(product, "bf16", "NVIDIA H100 80GB HBM3") == pytest.approx(0.278, abs=1e-3)
    assert roofline(product, "fp32", "NVIDIA H200") == pytest.approx(4.103, abs=1e-3)
    assert roofline(Work(4.8e9, 1.0), "bf16", "NVIDIA H200") == pytest.approx(1.0)
    assert roofline(product, "bf16", "another") is None


def test_kernels_are_timed_beside_pytorch() -> None:
    lines = list(kernel_lines(TINY, "NVIDIA H100", repeats=1))
    names = ["topk", "topk_of_linear", "decode", "dot_at", "weight_gradient"]
    assert [(line.what, line.by) for line in lines] == [(name, by) for name in names for by in ("triton", "pytorch")]
    assert all(line.milliseconds > 0 and line.roofline_milliseconds for line in lines)


def test_kernels_and_pytorch_compute_the_same() -> None:
    for name, contest in contests(TINY).items():
        ours, plain = contest.kernel(), contest.plain()
        if name.startswith("topk"):
            assert isinstance(ours, tuple)
            assert isinstance(plain, tuple)
            ours, plain = ours[0].sort().values, plain[0].sort().values
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_steps_are_timed(dtype: torch.dtype) -> None:
    lines = list(gpu_steps.own_step_lines(Problem(64, dtype, DEVICE, d_in=16, k=4, batch=32), steps=5))
    assert [line.what for line in lines] == ["step of SAE", "step of VSAE, sigma 0.1"]
    assert all(line.tokens_per_second > 0 for line in lines)


def test_live_training_is_timed_without_its_first_block() -> None:
    problem = Problem(256, torch.float32, DEVICE, d_in=256, k=8, batch=127 * 8)
    line = gpu_steps.live_line("the bundled model", problem, sequences=16, blocks=2)
    assert line.tokens == 127 * 16  # of the second block
    assert line.milliseconds > 0


def test_what_fails_is_named_and_costs_nothing_else() -> None:
    line = Line("step", "us", "bf16", 64, 2.0, 1_000_000)

    def absent() -> list[Line]:
        raise ModuleNotFoundError("No module named 'peer'", name="peer")

    def broken() -> list[Line]:
        raise RuntimeError("out of memory\nmore")

    skipped: dict[str, str] = {}
    measured = list(gpu.measure([("a", absent), ("b", lambda: [line]), ("c", broken)], skipped))
    assert measured == [line]
    assert skipped == {"a": "peer cannot be imported", "c": "RuntimeError: out of memory"}


def test_every_job_is_its_own() -> None:
    names = [name for name, _ in gpu.jobs(DEVICE, "a device")]
    assert len(names) == len(set(names)) == 3 * 2 * (3 + len(gpu_steps.PEERS)) + 2


def test_the_table_is_markdown() -> None:
    lines = [
        Line("encoder product", "torch.addmm", "fp32", 64, 0.8, 1_000_000),
        Line("decode", "triton", "bf16", 64, 0.5, 1_000_000, 1e9, 2e9, 0.25),
        Line("step of SAE", "sparsify", "fp32", 64, 2.0, 1_000_000),
    ]
    head, rule, *rows = gpu.table(lines).splitlines()
    assert head.count("|") == rule.count("|") == 11
    assert rows == [
        "| encoder product | torch.addmm | fp32 | 64 | 0.800 |  |  |  |  | 1.0 |",
        "| decode | triton | bf16 | 64 | 0.500 | 1.000 | 2.0 | 0.250 | 50% |  |",
        "| step of SAE | sparsify | fp32 | 64 | 2.000 |  |  |  |  | 2.5 |",
    ]


def test_products_are_in_the_precision_of_the_problem() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    problem = Problem(100, torch.float32, DEVICE, tf32=True)
    allowed: list[bool] = []

    def measure(problem: Problem) -> list[Line]:
        allowed.append(torch.backends.cuda.matmul.allow_tf32)
        return []

    assert list(problem.lines(measure)) == []
    assert (problem.precision, allowed) == ("tf32", [True])
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_the_plain_step_is_ours() -> None:
    """One step of the SAE in plain PyTorch, from the same weights, moves the decoder as ours does."""
    x = gpu_steps.batches(TINY)[0]
    module = vl.SAE(16, 100, vl.TopK(6), bias_init="zero", seed=0).to(DEVICE)
    module.loss(x).total.backward()
    step = gpu_steps.plain(TINY, x)
    assert step.__closure__ is not None
    [optimizer] = [cell.cell_contents for cell in step.__closure__ if isinstance(cell.cell_contents, torch.optim.Adam)]
    before = optimizer.param_groups[0]["params"][1].detach().clone()
    gradients: list[torch.Tensor] = []
    optimizer.register_step_pre_hook(lambda *_: gradients.append(optimizer.param_groups[0]["params"][1].grad.clone()))
    step(x)
    ours = module.autoencoder.W_dec
    assert torch.equal(before, ours.detach())
    assert ours.grad is not None
    unit = gradients[0] / gradients[0].norm()  # which was clipped
    torch.testing.assert_close(unit, ours.grad / ours.grad.norm(), rtol=1e-4, atol=1e-6)

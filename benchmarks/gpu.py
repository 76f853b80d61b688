"""What the Triton kernels and whole training steps cost on one CUDA GPU, beside PyTorch and the peers.

    python -m benchmarks.gpu

First checks every kernel against its formula in float64 and ends with status 1, naming what failed, if one is wrong;
without a GPU ends with status 2. Then times, as medians of repeats after a warm-up: the kernels and plain PyTorch,
with the roofline of the device's published limits; whole training steps (forward, backward, clip, Adam) of this
package and of the peers that can be imported; live training. Prints one Markdown table and writes
`benchmarks/gpu_DATE.json`. float32 is without TF32. A few minutes.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path

import torch

from benchmarks.gpu_kernels import failures, kernel_lines
from benchmarks.gpu_steps import PEERS, live_line, own_step_lines, peer_line
from benchmarks.gpu_timing import Line, Problem
from vsae_lightning.autoencoders.kernels.triton import usable
from vsae_lightning.files import write_json

ROOT = Path(__file__).parents[1]
D_SAE = (16_384, 65_536)
DTYPES = (torch.bfloat16, torch.float32)


def main() -> None:
    if not torch.cuda.is_available():
        print("benchmarks.gpu needs a CUDA GPU, and there is none here.", file=sys.stderr)
        sys.exit(2)
    device = torch.device("cuda", torch.cuda.current_device())
    name = torch.cuda.get_device_name(device)
    print(f"{name}, torch {torch.__version__}", flush=True)
    if wrong := found_wrong(problems_to_check(device)):
        sys.exit("wrong on this device: " + "; ".join(wrong))
    skipped: dict[str, str] = {}
    lines = list(measure(jobs(device, name), skipped))
    result = {
        "device": name,
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "lines": [line._asdict() | {"tokens_per_second": line.tokens_per_second} for line in lines],
        "skipped": skipped,
    }
    write_json(ROOT / "benchmarks" / f"gpu_{date.today()}.json", result)
    print(table(lines))
    for what, why in skipped.items():
        print(f"skipped: {what}: {why}")


def found_wrong(problems: Iterable[Problem]) -> list[str]:
    """Of the kernels on these problems; empty where all are right."""
    wrong = []
    for problem in problems:
        reason = usable(problem.device, problem.dtype)
        wrong += failures(problem) if reason is None else [f"{problem.precision}: {reason}"]
    return wrong


def problems_to_check(device: torch.device) -> list[Problem]:
    sizes = [(4096, 512, 64), (3, 768, 32)]  # each is compiled anew, for every dtype: seconds apiece
    return [Problem(20_000, dtype, device, d_in=d_in, k=k, batch=batch) for dtype in DTYPES for batch, d_in, k in sizes]


def jobs(device: torch.device, name: str) -> Iterator[tuple[str, Callable[[], Iterable[Line]]]]:
    """What is measured, each with what it is called where it fails."""
    for dtype in DTYPES:
        for d_sae in D_SAE:
            problem = Problem(d_sae, dtype, device)
            which = f"{problem.precision}, d_sae {d_sae}"
            yield f"kernels, {which}", lambda problem=problem: kernel_lines(problem, name)
            yield f"steps, {which}", lambda problem=problem: own_step_lines(problem)
            for peer in PEERS:
                yield f"{peer}, {which}", lambda peer=peer, problem=problem: [peer_line(peer, problem)]
    for model, d_in, d_sae, k in (("the bundled model", 256, 2048, 32), ("Pythia-70M's shape", 512, 8192, 64)):
        live = Problem(d_sae, torch.bfloat16, device, d_in=d_in, k=k)
        yield f"live training on {model}", lambda model=model, live=live: [live_line(model, live)]


def measure(todo: Iterable[tuple[str, Callable[[], Iterable[Line]]]], skipped: dict[str, str]) -> Iterator[Line]:
    """The lines of all jobs; one that fails is named in `skipped` and costs none of the others."""
    for what, job in todo:
        try:
            yield from job()
        except ImportError as error:
            skipped[what] = f"{error.name} cannot be imported"
        except Exception as error:  # of a peer's own making, or too little memory
            skipped[what] = f"{type(error).__name__}: {' '.join(str(error).splitlines()[:1])}"
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def table(lines: list[Line]) -> str:
    """In Markdown."""
    head = ["what", "by", "precision", "d_sae", "ms", "GB", "GFLOP", "roofline ms", "of it", "million tokens/s"]
    rows = [head, ["---"] * len(head), *(cells(line) for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cells(line: Line) -> list[str]:
    limit = line.roofline_milliseconds
    return [
        line.what,
        line.by,
        line.precision,
        str(line.d_sae),
        f"{line.milliseconds:.3f}",
        "" if line.bytes is None else f"{line.bytes / 1e9:.3f}",
        "" if line.flop is None else f"{line.flop / 1e9:.1f}",
        "" if limit is None else f"{limit:.3f}",
        "" if limit is None else f"{limit / line.milliseconds:.0%}",
        f"{line.tokens_per_second / 1e6:.3f}",
    ]


if __name__ == "__main__":
    main()

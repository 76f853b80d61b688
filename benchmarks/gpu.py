"""What the Triton kernels and whole training steps cost on one CUDA GPU, beside PyTorch and the peers.

    python -m benchmarks.gpu

First checks every kernel against its formula in float64 and ends with status 1, naming what failed, if one is wrong;
without a GPU ends with status 2. Then times, as medians of repeats after a warm-up: the kernels and plain PyTorch,
with the roofline of the device's published limits; whole training steps (forward, backward, clip, Adam) of this
package, of a dense SAE in plain PyTorch and of the peers that can be imported; live training. Prints one Markdown table
and writes `benchmarks/gpu_DATE.json` and `.md`. A few minutes.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path

import torch

from benchmarks.gpu_kernels import failures, kernel_lines
from benchmarks.gpu_steps import PEERS, PRODUCT, live_line, own_step_lines, peer_line, product_lines
from benchmarks.gpu_timing import Line, Problem
from benchmarks.workers.harness import versions
from vsae_lightning.autoencoders.kernels.triton import usable
from vsae_lightning.files import replacing, write_json

ROOT = Path(__file__).parents[1]
D_SAE = (16_384, 65_536)
DTYPES = (torch.bfloat16, torch.float32)
PRECISIONS = ((torch.bfloat16, False), (torch.float32, True), (torch.float32, False))  # dtype, whether TF32
NOTES = """Batch 4,096, d_in 512, k 64; live training: as its model. Medians. fp32 is without TF32, tf32 with it; bf16
is autocast with weights in float32. "of it": the roofline by the time; "/ product": in units of the encoder's product.
A step is forward, backward, clip and Adam, before AuxK can begin: ours in a Lightning Trainer without a logger, plain
PyTorch in a loop with nothing else. The noise of the VSAE is drawn anew for all latents in every step.
"""


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
        "versions": versions() | {"triton": version("triton"), "cuda": str(torch.version.cuda)},
        "lines": [line._asdict() | {"tokens_per_second": line.tokens_per_second} for line in lines],
        "skipped": skipped,
    }
    write_json(ROOT / "benchmarks" / f"gpu_{date.today()}.json", result)
    reasons = [f"skipped: {count} times, {why}" for why, count in Counter(skipped.values()).items()]
    report = "\n".join([NOTES, table(lines), "", *reasons])
    with replacing(ROOT / "benchmarks" / f"gpu_{date.today()}.md") as temporary:
        temporary.write_text(f"# The kernels and a training step on one {name}\n\n{report}\n", encoding="utf-8")
    print(report)


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
    for (dtype, tf32), d_sae in product(PRECISIONS, D_SAE):
        problem = Problem(d_sae, dtype, device, tf32=tf32)
        measures: dict[str, Callable[[Problem], Iterable[Line]]] = {
            PRODUCT: product_lines,
            "kernels": lambda problem: kernel_lines(problem, name),
            "steps": own_step_lines,
            **{peer: lambda problem, peer=peer: [peer_line(peer, problem)] for peer in PEERS},
        }
        for what, measure in measures.items():
            yield f"{what}, {problem.precision}, d_sae {d_sae}", partial(problem.lines, measure)
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
    head = ["what", "by", "precision", "d_sae", "ms", "GB", "GFLOP", "roofline ms", "of it", "/ product"]
    products = {(line.precision, line.d_sae): line.milliseconds for line in lines if line.what == PRODUCT}
    rows = [head, ["---"] * len(head)]
    rows += [cells(line, products.get((line.precision, line.d_sae))) for line in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cells(line: Line, product: float | None) -> list[str]:
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
        "" if product is None else f"{line.milliseconds / product:.1f}",
    ]


if __name__ == "__main__":
    main()

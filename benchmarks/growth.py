"""How the cost of our training grows with its sizes: exponents, fitted in log-log, and their plots.

    python -m benchmarks.growth

One size moves at a time: latents, k, batch for one optimizer step; the context for live training. An exponent of 1 is
proportional, 0 independent.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import Contestant, Entry, contest, environments
from benchmarks.language_model import PYTHIA_70M, corpus
from benchmarks.live import TINY_MODEL, with_files
from benchmarks.options import Options, parse
from benchmarks.plots import draw
from benchmarks.report import Report, Row, Table, write
from benchmarks.step import sized

DEFAULTS: dict[str, Any] = {
    **PYTHIA_70M,
    "layer": 3,
    "d_saes": [4096, 8192, 16_384, 32_768, 65_536, 131_072],
    "ks": [16, 32, 64, 128, 256, 512],
    "batches": [512, 1024, 2048, 4096, 8192],
    "contexts": [64, 128, 256, 512, 1024],
    "d_in": 512,
    "d_sae": 16_384,
    "k": 64,
    "batch": 2048,
    "lm_batch": 32,
    "buffer": 32_768,
    "passes": 1,
    "warmup": 1,
    "steps": 4,
    "rounds": 2,
    "dead_after_tokens": 10_000_000,
    "clip": 1.0,
}
TINY = {
    **TINY_MODEL,
    "d_saes": [128, 256],
    "ks": [4, 8],
    "batches": [32, 64],
    "contexts": [8, 16],
    "d_in": 32,
    "d_sae": 256,
    "k": 8,
    "batch": 64,
    "lm_batch": 4,
    "buffer": 256,
    "steps": 2,
    "rounds": 1,
}
AXES = {"d_saes": "d_sae", "ks": "k", "batches": "batch", "contexts": "context"}
COSTS = {"ms": "ms per step", "step_mib": "memory of the step [MiB]", "peak_mib": "peak of the process [MiB]"}
COLUMNS = {"axis": "moved", "size": "size", **COSTS, "tokens_per_second": "live tokens per second", "status": "status"}
FITTED = {"axis": "moved", "cost": "cost", "exponent": "exponent"}
NOTES = [
    "The other sizes are those of the settings; lr = 2e-4 sqrt(2^14 / d_sae), constant. Time and memory: the smallest "
    "of the rounds; memory of the step as in the benchmark `step`.",
    "For the context: live training, time per step with the language model's share.",
    "Exponents are slopes of a straight line through all sizes in log-log.",
]


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(__doc__ or "", DEFAULTS, TINY, argv)
    rows: list[Row] = []
    found: dict[str, Any] = {}
    for axis, size, entry in measured(options):
        rows.append(row(axis, size, entry))
        found |= environments([entry])
    tables = [Table("Costs", COLUMNS, rows), Table("Exponents", FITTED, exponents(rows))]
    drawn = draw(rows, COSTS, options.out)
    note = f"Plots: {drawn}." if drawn else "Plots: skipped, plotly is not installed."
    question = "How do time and memory of our training grow?"
    write(Report("growth", question, options.settings, found, tables, [*NOTES, note]), options.out)


def measured(options: Options) -> Iterator[tuple[str, int, Entry]]:
    """Every size of every axis with what it cost."""
    settings = options.settings
    for sizes in ("d_saes", "ks", "batches"):
        axis = AXES[sizes]
        contestants = [
            Contestant(f"{axis} {size:,}", "step_ours", {axis: size} | (sized(size) if axis == "d_sae" else {}))
            for size in settings[sizes]
        ]
        entries = contest(contestants, settings | sized(settings["d_sae"]), options.tiny)
        yield from ((axis, size, entry) for size, entry in zip(settings[sizes], entries, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        files = corpus(Path(folder), settings, settings["contexts"])
        contestants = [
            Contestant(f"context {size:,}", "live_ours", {"context": size, **files[size]})
            for size in settings["contexts"]
        ]
        entries = contest(contestants, with_files(settings | sized(settings["d_sae"]), {}), options.tiny)
    yield from (("context", size, entry) for size, entry in zip(settings["contexts"], entries, strict=True))


def row(axis: str, size: int, entry: Entry) -> Row:
    live = axis == "context"
    step, peak = None if live else entry.best("step_bytes"), entry.best("peak_bytes")
    return {
        "axis": axis,
        "size": size,
        "ms": entry.best("ms"),
        "step_mib": None if step is None else step / 2**20,
        "peak_mib": None if peak is None else peak / 2**20,
        "tokens_per_second": entry.most("tokens_per_second") if live else None,
        "status": entry.status,
    }


def exponents(rows: Sequence[Row]) -> list[Row]:
    """The slope of every cost over every axis."""
    found = []
    for axis in AXES.values():
        for key, cost in COSTS.items():
            points = [(row["size"], row[key]) for row in rows if row["axis"] == axis and (row[key] or 0) > 0]
            if len(points) > 1:
                x, y = np.log(np.array(points)).T
                found.append({"axis": axis, "cost": cost, "exponent": float(np.polyfit(x, y, 1)[0])})
    return found


if __name__ == "__main__":
    main()

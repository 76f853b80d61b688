"""Where the time of one training step goes: the largest operators by their own time.

python -m benchmarks.operators
"""

from collections.abc import Sequence
from typing import Any

from benchmarks.contest import Contestant, Entry, contest, environments
from benchmarks.options import parse
from benchmarks.report import Report, Table, write
from benchmarks.step import sized

DEFAULTS: dict[str, Any] = {
    "d_sae": 16_384,
    "d_in": 512,
    "batch": 2048,
    "k": 64,
    "warmup": 2,
    "steps": 3,
    "top": 15,
    "rounds": 1,
    "dead_after_tokens": 10_000_000,
    "clip": 1.0,
}
TINY = {"d_sae": 256, "d_in": 32, "batch": 64, "k": 8, "top": 5}
CONTESTANTS = (
    Contestant("SAE", "operators_ours"),
    Contestant("vSAE, sigma 0.1", "operators_ours", {"sigma": 0.1}),
    Contestant("vSAE, sigma learned", "operators_ours", {"sigma": "learned"}),
)
COLUMNS = {
    "operator": "operator",
    "self_ms": "own time [ms per step]",
    "percent": "% of all operators",
    "calls": "calls per step",
}
NOTES = ["By torch.profiler, which slows down a step of many small operators: the shares count, not their sum."]


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(__doc__ or "", DEFAULTS, TINY, argv)
    settings = options.settings | sized(options.settings["d_sae"])
    entries = contest(CONTESTANTS, settings, options.tiny)
    tables = [table(entry) for entry in entries]
    question = "Where does the time of one training step go?"
    write(Report("operators", question, settings, environments(entries), tables, NOTES), options.out)


def table(entry: Entry) -> Table:
    if entry.status != "ok":
        return Table(f"{entry.contestant.name}: {entry.status}", COLUMNS, [])
    measured = entry.rounds[0]
    return Table(f"{entry.contestant.name}: {measured['ms']:,.0f} ms per step", COLUMNS, measured["operators"])


if __name__ == "__main__":
    main()

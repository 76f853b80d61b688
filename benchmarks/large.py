"""Whether a large autoencoder trains on a small machine: one step of 131,072 latents on 4,096 rows.

    python -m benchmarks.large

Every number is of a whole process: Python, libraries, data, parameters, gradients, Adam's state, and the step.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks.contest import Contestant, Entry, contest, environments
from benchmarks.options import parse
from benchmarks.report import Report, Row, Table, write
from benchmarks.step import sized

DEFAULTS: dict[str, Any] = {
    "d_sae": 131_072,
    "d_in": 512,
    "batch": 4096,
    "k": 64,
    "warmup": 1,
    "steps": 1,
    "rounds": 1,
    "dead_after_tokens": 10_000_000,
    "clip": 1.0,
}
TINY = {"d_sae": 256, "d_in": 32, "batch": 64, "k": 8}
CONTESTANTS = (
    Contestant("SAE", "step_ours"),
    Contestant("vSAE, sigma 0.1", "step_ours", {"sigma": 0.1}),
    Contestant("vSAE, sigma learned", "step_ours", {"sigma": "learned"}),
)
COLUMNS = {
    "contestant": "contestant",
    "seconds": "seconds per step",
    "peak_gib": "peak of the process [GiB]",
    "state_gib": "of it parameters, gradients, Adam [GiB]",
    "step_gib": "memory of the step [GiB]",
    "step_units": "memory of the step [batch · d_sae · 4 B]",
    "status": "status",
}
NOTES = ["Peak: the largest resident set since the process began. Memory of the step: as in the benchmark `step`."]


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(__doc__ or "", DEFAULTS, TINY, argv)
    settings = options.settings | sized(options.settings["d_sae"])
    entries = contest(CONTESTANTS, settings, options.tiny)
    records = [{"contestant": entry.contestant.name, "rounds": entry.rounds} for entry in entries]
    table = Table("One step", COLUMNS, [row(entry) for entry in entries])
    question = "What memory does training a large autoencoder take?"
    write(Report("large", question, settings, environments(entries), [table], NOTES, records), options.out)


def row(entry: Entry) -> Row:
    measured = entry.rounds[0] if entry.rounds else {}
    gib = {name: value / 2**30 for name, value in measured.items() if name.endswith("_bytes")}
    return {
        "contestant": entry.contestant.name,
        "seconds": measured["ms"] / 1e3 if measured else None,
        "peak_gib": gib.get("peak_bytes"),
        "state_gib": gib.get("state_bytes"),
        "step_gib": gib.get("step_bytes"),
        "step_units": measured.get("step_units"),
        "status": entry.status,
    }


if __name__ == "__main__":
    main()

"""What the activation stream costs by itself: a language model that is free, and nobody who trains.

    python -m benchmarks.stream
    python -m benchmarks.stream --blocks 16384,65536

Ours against SAELens' mixing buffer and dictionary_learning's ActivationBuffer at one size; and ours over sizes of the
block, whose microseconds per row have to stay the same.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks.contest import Contestant, Entry, contest, environments
from benchmarks.options import parse
from benchmarks.report import Report, Row, Table, ratio, write

DEFAULTS: dict[str, Any] = {
    "buffer": 262_144,
    "blocks": [16_384, 65_536, 262_144, 1_048_576, 4_194_304],
    "d_in": 512,
    "batch": 2048,
    "context": 128,
    "lm_batch": 32,
    "passes": 2,
    "rounds": 3,
}
TINY = {"buffer": 1024, "blocks": [1024, 2048], "d_in": 32, "batch": 64, "context": 16, "lm_batch": 4, "rounds": 1}
OURS = Contestant("ours", "stream_ours")
CONTESTANTS = (
    OURS,
    Contestant("dictionary_learning", "stream_dictionary_learning", peer=True),
    Contestant("SAELens", "stream_saelens", peer=True),
)
COLUMNS = {
    "contestant": "contestant",
    "buffer": "shuffled together [rows]",
    "us_per_row": "µs per row",
    "rows_per_second": "rows per second",
    "per_ours": "time / ours",
    "peak_gib": "peak of the process [GiB]",
    "status": "status",
}
NOTES = [
    "The first buffer is filled and served before the clock starts; then as many rows are served as are brought in.",
    "SAELens and dictionary_learning refill one half of their buffer while the other stays; ours refills all of it.",
    "Ours looks at every row (finite or not) as it does in a run; float32, no dropped positions.",
    "µs per row: the smallest of the rounds.",
]


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(__doc__ or "", DEFAULTS, TINY, argv)
    settings = options.settings
    contested = contest(CONTESTANTS, settings, options.tiny)
    base = contested[0].best("us_per_row")
    peers = Table("Against the peers", COLUMNS, [row(entry, settings["buffer"], base) for entry in contested])
    grown = contest([of_block(rows, settings) for rows in settings["blocks"]], settings, options.tiny)
    base = grown[0].best("us_per_row")
    rows = [row(entry, size, base) for entry, size in zip(grown, settings["blocks"], strict=True)]
    columns = COLUMNS | {"per_ours": "time / the smallest block's"}
    records = [{"contestant": entry.contestant.name, "rounds": entry.rounds} for entry in (*contested, *grown)]
    tables = [peers, Table("Ours, over the size of the block", columns, rows)]
    question = "What does the activation stream cost by itself?"
    write(Report("stream", question, settings, environments(contested), tables, NOTES, records), options.out)


def of_block(rows: int, settings: dict[str, Any]) -> Contestant:
    """Small blocks are passed more often, so that the clock has something to measure."""
    passes = settings["passes"] * max(1, settings["buffer"] // rows)
    return Contestant(f"ours, {rows:,}", "stream_ours", {"buffer": rows, "passes": passes})


def row(entry: Entry, buffer: int, base: float | None) -> Row:
    peak = entry.most("peak_bytes")
    return {
        "contestant": entry.contestant.name,
        "buffer": buffer,
        "us_per_row": entry.best("us_per_row"),
        "rows_per_second": entry.most("rows_per_second"),
        "per_ours": ratio(entry.best("us_per_row"), base),
        "peak_gib": None if peak is None else peak / 2**30,
        "status": entry.status,
    }


if __name__ == "__main__":
    main()

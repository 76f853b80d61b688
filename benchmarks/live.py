"""What live training costs, from tokens to the optimizer step, in units of the language model alone.

    python -m benchmarks.live
    python -m benchmarks.live --d-sae 16384

The same model folder, tokens and settings for all; the model has Pythia-70M's shape and random weights.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contest import Contestant, Entry, contest, environments
from benchmarks.language_model import PYTHIA_70M, corpus
from benchmarks.options import parse
from benchmarks.report import Report, Row, Table, ratio, write
from benchmarks.step import sized

DEFAULTS: dict[str, Any] = {
    **PYTHIA_70M,
    "layer": 3,
    "d_sae": 8192,
    "k": 64,
    "batch": 2048,
    "context": 128,
    "lm_batch": 32,
    "buffer": 32_768,
    "passes": 3,
    "rounds": 3,
    "dead_after_tokens": 10_000_000,
    "clip": 1.0,
}
TINY_MODEL = {"vocab_size": 128, "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "layer": 1}
TINY = {**TINY_MODEL, "d_sae": 256, "k": 8, "batch": 64, "context": 16, "lm_batch": 4, "buffer": 256, "rounds": 1}
MODEL = "language model alone"
CONTESTANTS = (
    Contestant(MODEL, "live_model"),
    Contestant("SAE", "live_ours"),
    Contestant("vSAE, sigma 0.1", "live_ours", {"sigma": 0.1}),
    Contestant("vSAE, sigma learned", "live_ours", {"sigma": "learned"}),
    Contestant("dictionary_learning", "live_dictionary_learning", peer=True),
    Contestant("SAELens", "live_saelens", peer=True),
)
COLUMNS = {
    "contestant": "contestant",
    "tokens_per_second": "tokens per second",
    "percent": "% of the language model alone",
    "per_peer": "our SAE / this",
    "loss_ratio": "loss, last / first",
    "peak_gib": "peak of the process [GiB]",
    "status": "status",
}
NOTES = [
    "Rates are over whole buffers, behind the first one: as many tokens go through the language model as are trained "
    "on. The largest of the rounds.",
    "The language model alone: up to the hook, as ours runs it, in batches of lm_batch sequences.",
    "All read the same tokens from memory; nobody tokenises, logs, validates or writes checkpoints. All have scaled "
    "dot-product attention, which SAELens' bridge and dictionary_learning's model do not take of themselves.",
    "SAELens' mixing buffer and dictionary_learning's buffer hold as many rows as ours, and refill them by halves.",
]


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(__doc__ or "", DEFAULTS, TINY, argv)
    settings = options.settings | sized(options.settings["d_sae"])
    with tempfile.TemporaryDirectory() as folder:
        files = corpus(Path(folder), settings, [settings["context"]])[settings["context"]]
        entries = contest(CONTESTANTS, with_files(settings, files), options.tiny)
    rows = table_rows(entries)
    records = [{"contestant": entry.contestant.name, "rounds": entry.rounds} for entry in entries]
    table = Table("Live training", COLUMNS, rows)
    question = "What does live training cost?"
    write(Report("live", question, settings, environments(entries), [table], NOTES, records), options.out)


def with_files(settings: dict[str, Any], files: dict[str, str]) -> dict[str, Any]:
    hook = {"hook": f"blocks.{settings['layer']}.hook_resid_post", "d_in": settings["hidden_size"]}
    return settings | files | hook


def table_rows(entries: Sequence[Entry]) -> list[Row]:
    rates = {entry.contestant.name: entry.most("tokens_per_second") for entry in entries}
    rows = []
    for entry in entries:
        rate, peak = entry.most("tokens_per_second"), entry.most("peak_bytes")
        share = ratio(rate, rates[MODEL])
        row = {
            "contestant": entry.contestant.name,
            "tokens_per_second": rate,
            "percent": None if share is None else 100 * share,
            "per_peer": ratio(rates["SAE"], rate),
            "loss_ratio": entry.rounds[0]["loss_ratio"] if entry.rounds else None,
            "peak_gib": None if peak is None else peak / 2**30,
            "status": entry.status,
        }
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()

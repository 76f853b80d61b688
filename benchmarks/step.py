"""What one optimizer step costs, against the encoder's product alone, and against the peers' trainers.

    python -m benchmarks.step
    python -m benchmarks.step --d-sae 16384 --rounds 5

Forward, loss, backward, clipping at norm 1, Adam, unit decoder rows where the trainer has them; AuxK is there, and no
latent is dead, as at the start of every run. Activations are random, the same for all, and float32.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks.contest import Contestant, Entry, contest, environments
from benchmarks.options import parse
from benchmarks.report import Report, Row, Table, ratio, write

DEFAULTS: dict[str, Any] = {
    "d_sae": [4096, 16384, 65536],
    "d_in": 512,
    "batch": 2048,
    "k": 64,
    "warmup": 2,
    "steps": 8,
    "rounds": 3,
    "dead_after_tokens": 10_000_000,
    "clip": 1.0,
}
TINY = {"d_sae": [256], "d_in": 32, "batch": 64, "k": 8, "steps": 3, "rounds": 1}
FLOOR, OURS = "encoder product", "SAE"
CONTESTANTS = (
    Contestant(FLOOR, "step_floor", {"products": 1, "noise": False}),
    Contestant("two products", "step_floor", {"products": 2, "noise": False}),
    Contestant("product + noise", "step_floor", {"products": 1, "noise": True}),
    Contestant("noise", "step_floor", {"products": 0, "noise": True}),
    Contestant(OURS, "step_ours"),
    Contestant("vSAE, sigma 0.1", "step_ours", {"sigma": 0.1}),
    Contestant("vSAE, sigma learned", "step_ours", {"sigma": "learned"}),
    Contestant("dictionary_learning", "step_dictionary_learning", peer=True),
    Contestant("SAELens", "step_saelens", {"sparse": False, "rescale": True}, peer=True),
    Contestant("SAELens, sparse", "step_saelens", {"sparse": True, "rescale": True}, peer=True),
    Contestant("SAELens, sparse, no rescaling", "step_saelens", {"sparse": True, "rescale": False}, peer=True),
    Contestant("sparsify", "step_sparsify", peer=True),
)
COLUMNS = {
    "d_sae": "d_sae",
    "contestant": "contestant",
    "ms": "ms per step",
    "per_product": "/ encoder product",
    "per_ours": "/ our SAE",
    "step_units": "memory of the step [batch · d_sae · 4 B]",
    "loss_ratio": "loss, last / first",
    "status": "status",
}
NOTES = [
    "The floors write into memory that is there already. Noise there is drawn by one thread, as PyTorch draws it; ours "
    "uses all. Ours tells malloc to keep what is freed (`vsae_lightning/memory.py`), the peers do not.",
    "ms: the median over the steps of a process, the smallest of the rounds; every round has a new process.",
    "Memory of the step: peak of the resident set during one step, less the process at rest, which holds parameters "
    "and Adam's state, and less one gradient per parameter; in units of one [batch, d_sae] float32 tensor.",
    "Ours run in a Lightning Trainer, SAELens in its SAETrainer.fit, dictionary_learning in TopKTrainer.update, all "
    "whole; sparsify's SparseCoder in the order of its Trainer, which does not clip.",
    "Loss, last / first: of the steps taken, by each trainer's own measure of the reconstruction: they do learn.",
    "All use Adam at lr = 2e-4 sqrt(2^14 / d_sae), constant.",
]


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(__doc__ or "", DEFAULTS, TINY, argv)
    rows: list[Row] = []
    records: list[Row] = []
    found: dict[str, Any] = {}
    for d_sae in options.settings["d_sae"]:
        entries = contest(CONTESTANTS, options.settings | sized(d_sae), options.tiny)
        rows += table_rows(d_sae, entries)
        records += [{"d_sae": d_sae, "contestant": e.contestant.name, "rounds": e.rounds} for e in entries]
        found |= environments(entries)
    question = "What does one optimizer step cost?"
    table = Table("One optimizer step", COLUMNS, rows)
    write(Report("step", question, options.settings, found, [table], NOTES, records), options.out)


def sized(d_sae: int) -> dict[str, Any]:
    return {"d_sae": d_sae, "lr": 2e-4 * (2**14 / d_sae) ** 0.5}


def table_rows(d_sae: int, entries: Sequence[Entry]) -> list[Row]:
    best = {entry.contestant.name: entry.best("ms") for entry in entries}
    rows = []
    for entry in entries:
        ms = entry.best("ms")
        row = {
            "d_sae": d_sae,
            "contestant": entry.contestant.name,
            "ms": ms,
            "per_product": ratio(ms, best[FLOOR]),
            "per_ours": ratio(ms, best[OURS]),
            "step_units": entry.best("step_units"),
            "state_bytes": entry.best("state_bytes"),
            "loss_ratio": entry.rounds[0]["loss_ratio"] if entry.rounds else None,
            "status": entry.status,
        }
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()

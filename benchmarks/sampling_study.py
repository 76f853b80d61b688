"""What sampling and the gate KL do to an SAE: robustness, dispersion and stability of the members of a run.

    vsae fit --config configs/recommended/smollm2-135m/comparison.yaml
    python benchmarks/sampling_study.py lightning_logs/version_0

For every member of an ensemble, on the held-out tokens that validation reads: explained variance and alive
fraction, clean and with noise on the input (of 30 % of each row's norm, in a random direction), the Jaccard
overlap of the active sets without and with that noise, and the mean over alive latents of the largest
absolute cosine with another alive decoder row. Members named NAME_SEED are grouped by NAME: mean and standard
deviation over seeds; null for the standard deviation of one seed. MMCS between seeds: the mean over alive latents of
one seed of the largest cosine with the other seed's, over both directions. Pairs of seeds share seeds, so they are not
independent: MMCS has a mean and a range over pairs (`mmcs_range`), and no standard deviation. Writes
`sampling_study.json` into the run folder, and prints a table.
"""

import argparse
import itertools
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from torch import Tensor

import vsae_lightning as vl
from vsae_lightning.autoencoders.storage import find_checkpoint, read_checkpoint
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.evaluation.evaluation import untracked
from vsae_lightning.evaluation.held_out import held_out_rows
from vsae_lightning.evaluation.robustness import Robustness, disturbed
from vsae_lightning.evaluation.stability import alive_latents
from vsae_lightning.files import write_json
from vsae_lightning.metrics.directions import nearest_cosines, pairwise_cosines

NOISE = Robustness(noise=[0.3])
COLUMNS = {
    "explained_variance": "explained variance",
    "alive": "alive",
    "explained_variance_noisy": "with 30 % noise",
    "jaccard": "Jaccard",
    "max_cosine": "mean max |cos|",
    "mmcs": "MMCS between seeds",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of an ensemble's run")
    run: Path = parser.parse_args().run
    members = list(read_checkpoint(find_checkpoint(run))["members"])
    autoencoders = {name: vl.load(run, member=name) for name in members}
    tokens = yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]["validation_tokens"]
    batches = list(held_out_rows(open_subject(str(run), members[0]), tokens, untracked))
    alive = dict(zip(members, alive_latents(list(autoencoders.values()), batches), strict=True))
    measured = {name: measure(autoencoder, batches, alive[name]) for name, autoencoder in autoencoders.items()}
    groups = {
        kind: summary([measured[name] for name in names], [autoencoders[n].W_dec[alive[n]] for n in names])
        for kind, names in grouped(members)
    }
    origin = json.loads((run / "run.json").read_text())
    result = {"tokens": sum(map(len, batches)), "groups": groups, "members": measured}
    write_json(run / "sampling_study.json", result | {key: origin[key] for key in ("versions", "device", "config")})
    Console(width=140).print(table(groups))


def measure(autoencoder: vl.SparseAutoencoder, batches: list[Tensor], alive: Tensor) -> dict[str, float | None]:
    found = disturbed(autoencoder, batches, {"noisy": NOISE.disturbances(autoencoder)["noise_0.3"]})
    return {
        "explained_variance": found["clean"]["explained_variance"],
        "alive": float(alive.float().mean()),
        "explained_variance_noisy": found["noisy"]["explained_variance"],
        "jaccard": found["noisy"]["jaccard"],
        "max_cosine": float(pairwise_cosines(autoencoder.W_dec[alive]).largest.mean()),
    }


def grouped(members: list[str]) -> Iterator[tuple[str, list[str]]]:
    for kind, names in itertools.groupby(sorted(members), key=lambda name: name.rpartition("_")[0]):
        yield kind, list(names)


def summary(values: list[dict[str, Any]], decoders: list[Tensor]) -> dict[str, list[float | None]]:
    """Mean and standard deviation over seeds; of the MMCS the mean over pairs of seeds, and the range beside it."""
    columns = {key: [one[key] for one in values] for key in values[0]}
    found: dict[str, list[float | None]] = {
        key: [statistics.mean(v), statistics.stdev(v) if len(v) > 1 else None] for key, v in columns.items()
    }
    stability = [
        statistics.mean(float(cosines.mean()) for cosines in nearest_cosines(a, b))
        for a, b in itertools.combinations(decoders, 2)
    ]
    if stability:
        found |= {"mmcs": [statistics.mean(stability), None], "mmcs_range": [min(stability), max(stability)]}
    return found


def table(groups: dict[str, dict[str, list[float | None]]]) -> Table:
    drawn = Table("arm", *COLUMNS.values())
    for kind, values in groups.items():
        drawn.add_row(kind, *(cell(values, key) for key in COLUMNS))
    return drawn


def cell(values: dict[str, list[float | None]], key: str) -> str:
    """`mean ± standard deviation`, `mean (lowest to highest)` over pairs, or the mean alone."""
    if key not in values:
        return ""
    mean, deviation = values[key]
    if f"{key}_range" in values:
        low, high = values[f"{key}_range"]
        return f"{mean:.4f} ({low:.4f} to {high:.4f})"
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ± {deviation:.4f}"


if __name__ == "__main__":
    main()

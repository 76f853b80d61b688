"""Are the features of one kind of autoencoder more dispersed than those of another? The numbers of their maps.

    vsae fit --config configs/recommended/bundled/comparison.yaml
    python benchmarks/feature_maps.py lightning_logs/version_0 --members topk_0,topk_1,topk_2,vsae_0,vsae_1,vsae_2

The maps are those that `vsae analyze` draws: by activation and by decoder direction, of all features that fire at
least 10 times in the rows read; their numbers, and how many features there are. Members named NAME_SEED are grouped
by NAME: mean and standard deviation over seeds. Writes `feature_maps.json` where --output says, and prints a table.
"""

import argparse
import itertools
import json
import statistics
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.maps import Maps, feature_maps
from vsae_lightning.analysis.observation import Observation, observe
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.evaluation.evaluation import untracked
from vsae_lightning.files import write_json

Numbers = dict[str, float | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of an ensemble's run")
    parser.add_argument("--members", required=True, help="names, separated by commas")
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--output", type=Path, default=Path("feature_maps.json"))
    given = parser.parse_args()
    members = given.members.split(",")
    subjects = [open_subject(str(given.run), member) for member in members]
    observations = observe(subjects, Excerpt.of(subjects[0], given.tokens), untracked)
    measured = {name: measure(seen) for name, seen in zip(members, observations, strict=True)}
    kinds = itertools.groupby(sorted(members), key=lambda name: name.rpartition("_")[0])
    groups = {kind: summary([measured[name] for name in names]) for kind, names in kinds}
    origin = json.loads((given.run / "run.json").read_text(encoding="utf-8"))
    known = {key: origin[key] for key in ("versions", "device", "config")}
    write_json(given.output, {"rows": observations[0].excerpt.rows, "groups": groups, "members": measured} | known)
    Console(width=120).print(table(groups))


def measure(seen: Observation) -> Numbers:
    maps = feature_maps(seen, Maps(), untracked)
    found: Numbers = {"features on the map": float(len(maps[0].features))}
    for drawn in maps:
        found |= {f"{drawn.name}: {number.name}": number.value for number in drawn.numbers}
    return found


def summary(values: list[Numbers]) -> dict[str, list[float]]:
    """Mean and standard deviation over seeds, of numbers that every seed has."""
    columns = {key: [one[key] for one in values] for key in values[0]}
    known = {key: [float(x) for x in column if x is not None] for key, column in columns.items()}
    return {
        key: [statistics.mean(v), statistics.stdev(v) if len(v) > 1 else 0.0]
        for key, v in known.items()
        if len(v) == len(values)
    }


def table(groups: dict[str, dict[str, list[float]]]) -> Table:
    drawn = Table("", *groups)
    for key in next(iter(groups.values())):
        drawn.add_row(key, *(f"{of[key][0]:.4f} ± {of[key][1]:.4f}" if key in of else "" for of in groups.values()))
    return drawn


if __name__ == "__main__":
    main()

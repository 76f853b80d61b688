"""Are the features of a vSAE more dispersed than those of a TopK SAE at the same k, after a long training?

    python -m benchmarks.dispersion --steps 12000

Trains three seeds each of the TopK SAE and the vSAE of `configs/recommended/bundled`, and of that vSAE with a diagonal
posterior and its KL, all at once, each in a process of its own, on the same tokens; then `vsae test` (all held-out
text) and `vsae evaluate --suite geometry,robustness`. Writes `benchmarks/dispersion_DATE.json`, and the table as `.md`.
Dispersion is 1 - cosine to the nearest other decoder row of those that are alive, by that of as many random directions:
below 1 they lie in clusters.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import torch

from vsae_lightning.files import replacing, write_json

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs" / "recommended" / "bundled"
DIAGONAL = {
    "covariance": "diagonal",
    "sigma": "0.1",
    "sigma_warmup_steps": "0",
    "kl_weight": "0.01",
    "kl_warmup_steps": "100",
    "gate_kl_weight": "0",
}
ARMS = {
    "topk": ["--config", str(CONFIGS / "topk_sae.yaml")],
    "vsae": ["--config", str(CONFIGS / "topk_vsae.yaml")],
    "diagonal": [
        "--config",
        str(CONFIGS / "topk_vsae.yaml"),
        *(part for name, value in DIAGONAL.items() for part in (f"--model.{name}", value)),
    ],
}
SEEDS = (0, 1, 2)
COLUMNS = {
    "explained_variance": "explained variance",
    "ce_loss_score": "CE loss score",
    "alive_fraction": "alive",
    "dispersion": "dispersion",
    "mean_largest_abs_cosine": "mean largest abs. cosine",
    "effective_rank": "effective rank",
    "mean_largest_jaccard": "mean largest Jaccard",
    "explained_variance_noisy": "explained variance, 30 % noise",
    "mmcs": "MMCS of seeds",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12_000, help="of 2,048 tokens")
    parser.add_argument("--folder", type=Path, default=Path("dispersion_runs"), help="where the runs go")
    parser.add_argument("--accelerator", default="gpu")
    options = parser.parse_args()
    runs = {(arm, seed): (options.folder / arm / str(seed)).resolve() for arm in ARMS for seed in SEEDS}
    start = time.monotonic()
    in_parallel((folder, fit(arm, seed, options)) for (arm, seed), folder in runs.items())
    seconds = time.monotonic() - start
    in_parallel((folder, ["test", "last"]) for folder in runs.values())
    in_parallel((folder, evaluation(arm, seed, runs, options)) for (arm, seed), folder in runs.items())
    found = {arm: [measured(runs[arm, seed]) for seed in SEEDS] for arm in ARMS}
    origin = json.loads((next(iter(runs.values())) / "lightning_logs" / "version_0" / "run.json").read_text())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else origin["device"]
    said = {"steps": options.steps, "tokens": 2048 * options.steps, "seconds": seconds, "device": device}
    stem = ROOT / "benchmarks" / f"dispersion_{date.today()}"
    arms = {arm: [part.removeprefix(f"{ROOT}/") for part in parts] for arm, parts in ARMS.items()}
    write_json(stem.with_suffix(".json"), {**said, "versions": origin["versions"], "arms": arms, "seeds": found})
    with replacing(stem.with_suffix(".md")) as temporary:
        temporary.write_text(report(said, found), encoding="utf-8")
    print(report(said, found))


def fit(arm: str, seed: int, options: argparse.Namespace) -> list[str]:
    every = str(options.steps)
    trainer = {"accelerator": options.accelerator, "max_steps": every, "val_check_interval": every}
    chosen = {"model.seed": str(seed), "checkpoint.every_n_steps": every}
    chosen |= {f"trainer.{name}": value for name, value in trainer.items()}
    return ["fit", *ARMS[arm], *(part for name, value in chosen.items() for part in (f"--{name}", value))]


def evaluation(arm: str, seed: int, runs: dict[tuple[str, int], Path], options: argparse.Namespace) -> list[str]:
    """With the stability against the other seeds."""
    others = [str(runs[arm, other] / "lightning_logs" / "version_0") for other in SEEDS if other != seed]
    device = "cuda" if options.accelerator == "gpu" else "cpu"
    suite = ["--suite", "geometry,robustness", "--device", device]
    return ["evaluate", "last", *suite, "--robustness.against", json.dumps(others)]


def in_parallel(commands: Iterable[tuple[Path, list[str]]]) -> None:
    """Each in its folder, with its output in a file there; all have to succeed."""
    running = []
    for folder, arguments in commands:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{arguments[0]}.log").open("w") as log:
            command = [sys.executable, "-m", "vsae_lightning", *arguments]
            running.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT))
    statuses = [child.wait() for child in running]
    if any(statuses):
        raise SystemExit("one of the runs failed; see the .log files in their folders")


def measured(folder: Path) -> dict[str, float]:
    run = folder / "lightning_logs" / "version_0"
    test = json.loads((run / "test.json").read_text())
    results = {
        name: json.loads(next((run / "evaluation" / name).glob("*.json")).read_text())["eval_result_metrics"]
        for name in ("geometry", "robustness")
    }
    geometry, robustness = results["geometry"], results["robustness"]
    return {
        **{name: test[f"test/{name}"] for name in ("explained_variance", "ce_loss_score", "alive_fraction")},
        "dispersion": geometry["dispersion"]["dispersion"],
        **{name: geometry["decoder"][name] for name in ("mean_largest_abs_cosine", "effective_rank")},
        "mean_largest_jaccard": geometry["coactivation"]["mean_largest_jaccard"],
        "explained_variance_noisy": robustness["noise_0.3"]["explained_variance"],
        "mmcs": robustness["stability"]["mmcs"],
    }


def report(said: dict[str, Any], found: dict[str, list[dict[str, float]]]) -> str:
    """Mean and standard deviation over seeds, in Markdown."""
    head = f"# Dispersion of features, {said['tokens']:,} tokens of the bundled model, {said['device']}"
    rows = [["", *COLUMNS.values()], ["---"] * (len(COLUMNS) + 1)]
    for arm, seeds in found.items():
        values = [[one[name] for one in seeds] for name in COLUMNS]
        rows.append([arm, *(f"{statistics.mean(v):.4f} ± {statistics.stdev(v):.4f}" for v in values)])
    return "\n".join([head, "", *(f"| {' | '.join(row)} |" for row in rows), ""])


if __name__ == "__main__":
    main()

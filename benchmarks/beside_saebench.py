"""Our evaluations and SAEBench's own code on one run: every number that both have, side by side.

    vsae evaluate RUN --suite core,probing,absorption,scr,tpp,meta --core.convention saebench
    .venv-peers/bin/vsae evaluate RUN --suite core,probing,absorption,scr,tpp,meta --by saebench
    python -m benchmarks.beside_saebench RUN NAME

Reads what these two left in RUN/evaluation.
"""

import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import Report, Table, write

RESULTS = Path(__file__).parent
PACKAGES = ("vsae_lightning", "torch", "transformer-lens", "scikit-learn")
COLUMNS = {name: name for name in ("evaluation", "metric", "ours", "SAEBench", "difference")}


def main() -> None:
    run, name = Path(sys.argv[1]) / "evaluation", sys.argv[2]
    pairs = [(path, run / "saebench" / path.parent.name / path.name) for path in sorted(run.glob("*/*_results.json"))]
    rows = [row for ours, theirs in pairs if theirs.is_file() for row in _rows(_read(ours), _read(theirs))]
    settings = [_read(path)["eval_config"] for path, theirs in pairs if theirs.is_file()]
    report = Report(
        name=f"beside_saebench_{name}",
        question="Are our numbers SAEBench's?",
        settings={"run": name},
        environments={"ours": {"versions": {p: version(p) for p in PACKAGES}, "threads": torch.get_num_threads()}},
        tables=[Table("every metric that both compute", COLUMNS, rows)],
        notes=["SAEBench 0.6.0's own code ran with TransformerLens 3.9 (make peers), on the same run and tokens."],
        records=settings,
    )
    print(write(report, RESULTS))


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _rows(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Metrics that are numbers in both; SAEBench writes -1 for what it did not compute, and we null."""
    for category, metrics in ours["eval_result_metrics"].items():
        for metric, value in metrics.items():
            other = theirs["eval_result_metrics"].get(category, {}).get(metric)
            is_time = metric.endswith("_seconds")
            if isinstance(value, int | float) and isinstance(other, int | float) and not is_time:
                difference = f"{abs(value - other):.1e}"
                shown = {"ours": f"{value:.6f}", "SAEBench": f"{other:.6f}", "difference": difference}
                yield {"evaluation": ours["eval_type_id"], "metric": metric, **shown}


if __name__ == "__main__":
    main()

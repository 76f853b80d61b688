"""What a benchmark leaves behind: one JSON with everything, and one Markdown page with the table."""

import os
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from vsae_lightning.files import replacing, write_json

ROOT = Path(__file__).parents[1]
Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows of equal keys.

    Args:
        title: What the rows are.
        columns: The heading of every key that the page shows, with its unit.
        rows: Values; those that are missing are None.
    """

    title: str
    columns: dict[str, str]
    rows: list[Row]


@dataclass(frozen=True)
class Report:
    """One benchmark's answer.

    Args:
        name: Of the benchmark, and of its files.
        question: What it answers.
        settings: All of them.
        environments: Threads and versions of ours and of the peers.
        tables: What was measured.
        notes: What a reader has to know beside them.
        records: What the JSON holds beyond the tables: every round of every contestant.
    """

    name: str
    question: str
    settings: dict[str, Any]
    environments: dict[str, Any]
    tables: list[Table]
    notes: list[str]
    records: list[Row] = field(default_factory=list)


def write(report: Report, folder: Path) -> Path:
    """Write NAME_DATE.json and NAME_DATE.md; returns the path of the first."""
    path = folder / f"{report.name}_{date.today()}.json"
    content = {
        "benchmark": report.name,
        "question": report.question,
        "date": str(date.today()),
        "commit": commit(),
        "hardware": hardware(),
        "environments": report.environments,
        "settings": report.settings,
        "tables": [{"title": table.title, "columns": table.columns, "rows": table.rows} for table in report.tables],
        "notes": report.notes,
        "records": report.records,
    }
    write_json(path, content)
    with replacing(path.with_suffix(".md")) as temporary:
        temporary.write_text(page(report), encoding="utf-8")
    print(page(report))
    return path


def page(report: Report) -> str:
    machine = hardware()
    lines = [f"# {report.name}", "", report.question, ""]
    for table in report.tables:
        lines += [f"## {table.title}", "", *markdown(table), ""]
    lines += [*(f"- {note}" for note in report.notes), ""]
    lines += [f"{date.today()}, {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB."]
    lines += [f"{name}: {_listed(found['versions'])}; {found['threads']} threads." for name, found in _sorted(report)]
    lines += ["", f"Settings: {_listed(report.settings)}.", ""]
    return "\n".join(lines)


def markdown(table: Table) -> list[str]:
    shown = [[cell(row.get(key)) for key in table.columns] for row in table.rows]
    rows = [list(table.columns.values()), ["---"] * len(table.columns), *shown]
    return ["| " + " | ".join(row) + " |" for row in rows]


def cell(value: Any) -> str:
    """Three significant digits, and no fewer than a whole number has."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")


def ratio(value: float | None, base: float | None) -> float | None:
    """None where either was not measured."""
    return None if value is None or not base else value / base


def hardware() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def commit() -> str | None:
    """Of the checkout, where it is one."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _sorted(report: Report) -> list[tuple[str, Any]]:
    return sorted(report.environments.items())


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())

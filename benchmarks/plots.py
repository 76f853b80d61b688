"""The plots of the benchmark `growth`: every cost over every size, in log-log."""

from collections.abc import Sequence
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def draw(rows: Sequence[dict[str, Any]], costs: dict[str, str], folder: Path) -> str | None:
    """Write growth_DATE.svg, or .html where plotly cannot make pictures; returns its name, None without plotly."""
    if find_spec("plotly") is None:
        return None
    figure = _figure(rows, costs)
    path = folder / f"growth_{date.today()}.svg"
    try:
        figure.write_image(path)
    except (ImportError, RuntimeError, ValueError):  # no kaleido, or no browser for it
        path = path.with_suffix(".html")
        figure.write_html(path, include_plotlyjs="cdn")
    return path.name


def _figure(rows: Sequence[dict[str, Any]], costs: dict[str, str]) -> Any:
    from plotly.subplots import make_subplots

    axes = list(dict.fromkeys(row["axis"] for row in rows))
    figure = make_subplots(len(costs), len(axes), column_titles=axes, row_titles=list(costs.values()))
    for column, axis in enumerate(axes, start=1):
        for line, key in enumerate(costs, start=1):
            points = [(row["size"], row[key]) for row in rows if row["axis"] == axis and (row[key] or 0) > 0]
            x, y = zip(*points, strict=True) if points else ((), ())
            figure.add_scatter(x=x, y=y, mode="lines+markers", showlegend=False, row=line, col=column)
    figure.update_xaxes(type="log", dtick="D2")
    figure.update_yaxes(type="log")
    figure.update_layout(width=320 * len(axes), height=280 * len(costs), template="simple_white")
    return figure

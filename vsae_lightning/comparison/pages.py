"""Plots as pages to point at and zoom into, by plotly, whose script lies beside them: nothing is asked of a network."""

import math
from html import escape
from pathlib import Path
from typing import Any

from vsae_lightning.comparison.plots import Plot, Series, label_places
from vsae_lightning.files import replacing

SCRIPT = "plotly.min.js"
MOST = 60  # characters of a name that the margin is made for: a stranger's can have any number


def write_script(folder: Path) -> None:
    """Write the script that all pages of the folder share."""
    from plotly.offline import get_plotlyjs

    with replacing(folder / SCRIPT) as temporary:
        temporary.write_text(get_plotlyjs(), encoding="utf-8")


def write_page(plot: Plot, folder: Path) -> None:
    """Write STEM.html."""
    page = _figure(plot).to_html(
        include_plotlyjs="directory", full_html=True, include_mathjax=False, config={"displaylogo": False}
    )
    with replacing(folder / f"{plot.stem}.html") as temporary:
        temporary.write_text(page, encoding="utf-8")


def _figure(plot: Plot) -> Any:
    from plotly.graph_objects import Figure

    figure = Figure()
    for line in plot.series:
        if plot.is_curve and any(mark.y_std for mark in line.marks):
            figure.add_scatter(**_band(line))
        figure.add_scatter(**_line(plot, line))
    for line, place in zip(plot.series, label_places(plot), strict=True):
        figure.add_annotation(
            text=escape(line.name),
            x=place[0],
            y=place[1],
            xref="paper",
            yref="paper",
            xanchor="left",
            showarrow=False,
            font={"color": line.look.colour},
        )
    x_axis: dict[str, Any] = {"range": list(plot.x_limits)}
    if plot.ticks:
        x_axis = {"type": "log", "range": [math.log10(x) for x in plot.x_limits], "tickvals": list(plot.ticks)}
    figure.update_layout(
        title=plot.title,
        xaxis={"title": plot.x_title, **x_axis},
        yaxis={"title": plot.y_title, "range": list(plot.y_limits)},
        template="simple_white",
        legend={"orientation": "h", "y": -0.2, "title": {"text": escape(plot.legend)}},
        margin={"r": 30 + 7 * min(MOST, max(len(line.name) for line in plot.series))},
    )
    return figure


def _line(plot: Plot, line: Series) -> dict[str, Any]:
    look, marks = line.look, line.marks
    symbol = f"{look.marker}-open" if look.is_published else look.marker
    spread = {"color": look.colour, "thickness": 1.2}
    bars = {
        "error_y": {"array": [mark.y_std or 0.0 for mark in marks], **spread},
        "error_x": {"array": [mark.x_std or 0.0 for mark in marks], **spread},
    }
    return {
        "x": [mark.x for mark in marks],
        "y": [mark.y for mark in marks],
        "mode": "lines+markers",
        "name": escape(line.name),
        "text": [_hover(mark.note, mark.y_std) for mark in marks],
        "hovertemplate": "%{text}<br>x %{x:.4g}<br>y %{y:.4f}<extra></extra>",
        "line": {"color": look.colour, "dash": "dash" if look.is_published else "solid"},
        "marker": {"symbol": symbol, "size": 8, "color": look.colour, "maxdisplayed": 12 if plot.is_curve else 0},
        **(bars if not plot.is_curve and any(mark.y_std is not None for mark in marks) else {}),
    }


def _band(line: Series) -> dict[str, Any]:
    """Mean plus and minus the standard deviation, there and back."""
    upper = [(mark.x, mark.y + (mark.y_std or 0.0)) for mark in line.marks]
    lower = [(mark.x, mark.y - (mark.y_std or 0.0)) for mark in reversed(line.marks)]
    x, y = zip(*upper, *lower, strict=True)
    return {
        "x": x,
        "y": y,
        "fill": "toself",
        "mode": "none",
        "fillcolor": line.look.colour,
        "opacity": 0.2,
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _hover(note: str, std: float | None) -> str:
    return escape(note) + ("" if std is None else f"<br>± {std:.4f} over seeds")

"""Plots as PNG, by matplotlib, which needs no browser."""

from pathlib import Path
from typing import Any

from vsae_lightning.comparison.plots import Plot, Series, label_places
from vsae_lightning.files import replacing

MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "cross": "P",
    "x": "X",
    "star": "*",
}
LABEL_LENGTH = 40


def write_picture(plot: Plot, folder: Path) -> None:
    """Write STEM.png."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(plot.series) // 2)
    figure = Figure(figsize=(9.5, 4.8 + 0.22 * rows), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    handles = [_draw(axes, plot, line) for line in plot.series]
    _style(axes, plot)
    for line, place in zip(plot.series, label_places(plot), strict=True):
        _label(axes, line, place)
    legend = figure.legend(
        handles,
        [_short(line.name) for line in plot.series],
        title=plot.legend or None,
        loc="outside lower center",
        ncols=2,
        frameon=False,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    with replacing(folder / f"{plot.stem}.png") as temporary:
        figure.savefig(temporary, format="png")


def _draw(axes: Any, plot: Plot, line: Series) -> Any:
    x, y = [mark.x for mark in line.marks], [mark.y for mark in line.marks]
    look = line.look
    (drawn,) = axes.plot(
        x,
        y,
        color=look.colour,
        linestyle="--" if look.is_published else "-",
        linewidth=1.5,
        marker=MARKERS[look.marker],
        markersize=6,
        markerfacecolor="white" if look.is_published else look.colour,
        markevery=max(1, len(x) // 10) if plot.is_curve else 1,
    )
    y_std = [mark.y_std or 0.0 for mark in line.marks]
    if plot.is_curve:
        low, high = zip(*((v - s, v + s) for v, s in zip(y, y_std, strict=True)), strict=True)
        axes.fill_between(x, low, high, color=look.colour, alpha=0.2, linewidth=0)
    elif any(mark.y_std is not None for mark in line.marks):
        x_std = [mark.x_std or 0.0 for mark in line.marks]
        axes.errorbar(x, y, xerr=x_std, yerr=y_std, fmt="none", ecolor=look.colour, elinewidth=1.2, capsize=4)
    return drawn


def _style(axes: Any, plot: Plot) -> None:
    axes.set_title(plot.title, loc="left")
    axes.set_xlabel(plot.x_title)
    axes.set_ylabel(plot.y_title)
    if plot.ticks:
        axes.set_xscale("log")
        axes.set_xticks(plot.ticks, [f"{tick:g}" for tick in plot.ticks])
        axes.minorticks_off()
    elif plot.is_curve:
        from matplotlib.ticker import EngFormatter

        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(*plot.x_limits)
    axes.set_ylim(*plot.y_limits)
    axes.grid(color="#E5E5E5", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _label(axes: Any, line: Series, place: tuple[float, float]) -> None:
    """The name, with a dotted line to the last point."""
    from matplotlib.patheffects import withStroke

    last = line.marks[-1]
    label = axes.annotate(
        _short(line.name),
        xy=(last.x, last.y),
        xytext=place,
        textcoords="axes fraction",
        va="center",
        fontsize=9,
        color=line.look.colour,
        parse_math=False,
        annotation_clip=False,
        arrowprops={"arrowstyle": "-", "linestyle": ":", "color": line.look.colour, "linewidth": 0.8, "shrinkB": 4},
    )
    label.set_path_effects([withStroke(linewidth=3, foreground="white")])  # where it lies over other lines


def _short(name: str) -> str:
    return name if len(name) <= LABEL_LENGTH else f"{name[: LABEL_LENGTH - 1]}…"

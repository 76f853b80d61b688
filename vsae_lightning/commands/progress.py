"""How far a command is, on a terminal."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from vsae_lightning.evaluation.evaluation import Track

COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


def console_of_log() -> Console:
    """A console, of 120 columns where it is no terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = 120
    return console


@contextmanager
def tracking(name: str, console: Console) -> Iterator[Track]:
    """Bars, one for each loop of `name` that is under way; in a log a line when the first of a kind begins."""
    told: set[str] = set()
    with Progress(
        *COLUMNS, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:

        def track(items: Iterable[Any], total: int, what: str) -> Iterator[Any]:
            if not console.is_terminal and what not in told:
                told.add(what)
                console.print(f"{name}: {what} ...", highlight=False, markup=False)
            task = progress.add_task(f"{name}: {what}", total=total)
            for item in items:
                yield item
                progress.advance(task)
            progress.remove_task(task)

        yield track

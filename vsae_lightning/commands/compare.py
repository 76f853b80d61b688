"""vsae compare: one table and its plots of several runs, and the paper's numbers beside them."""

from pathlib import Path

from rich.console import Console

from vsae_lightning.comparison.gather import gather
from vsae_lightning.comparison.groups import Group, group, of_the_paper
from vsae_lightning.comparison.pages import write_page, write_script
from vsae_lightning.comparison.pictures import write_picture
from vsae_lightning.comparison.plots import STEMS, plots
from vsae_lightning.comparison.published import CAVEATS, SOURCE
from vsae_lightning.comparison.tables import as_json, markdown, notes, parts, rich_tables
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.results import plain
from vsae_lightning.files import replacing, write_json
from vsae_lightning.runs import LOGS
from vsae_lightning.trust import told_trust


def compare(
    runs: list[str], paper: bool = False, output: str = str(LOGS / "comparison"), trust: str | None = None
) -> None:
    """Compare runs: a table on the terminal, and table.md, table.json, and a PNG and a page per plot in a folder.

    Runs whose settings differ in seeds alone are one row, with mean and standard deviation.

    Args:
        runs: Run folders, checkpoints, exported folders, or `last`; of an ensemble every member, or `RUN:member`.
        paper: Put the numbers of Baker & Li 2025 beside them.
        output: The folder for table and plots.
        trust: Packages of yours whose classes RUNS may name, separated by commas: their code runs.
    """
    entries = gather(runs, told_trust(trust or ""))
    groups = [*group(entries), *(of_the_paper() if paper else [])]
    told = [*notes(groups), *([f"paper: {SOURCE}.", *CAVEATS] if paper else [])]
    commands = list(dict.fromkeys(command for entry in entries for command in entry.missing))
    folder = _folder(output)
    with replacing(folder / "table.md") as temporary:
        temporary.write_text(markdown(parts(groups), told), encoding="utf-8")
    write_json(folder / "table.json", plain(as_json(groups, told, commands)))
    _draw(groups, folder)
    _print(groups, told, commands)
    Console(soft_wrap=True).print(f"table.md, table.json and plots: {folder}", highlight=False, markup=False)


def _folder(output: str) -> Path:
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output is {output!r}, which cannot be made a folder: {error.strerror}.") from None
    return folder


def _print(groups: list[Group], told: list[str], commands: list[str]) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 160  # of a log file
    for table in rich_tables(parts(groups)):
        console.print(table)
    for note in told:
        console.print(note, highlight=False, markup=False)
    if commands:
        console.print("what is missing would be made by", highlight=False)
    for command in commands:
        console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)


def _draw(groups: list[Group], folder: Path) -> None:
    """Write the plots that there are; those of an earlier comparison in the folder do not stay beside them."""
    drawn = plots(groups)
    write_script(folder)
    for plot in drawn:
        write_picture(plot, folder)
        write_page(plot, folder)
    for stem in set(STEMS) - {plot.stem for plot in drawn}:
        for suffix in (".png", ".html"):
            (folder / f"{stem}{suffix}").unlink(missing_ok=True)

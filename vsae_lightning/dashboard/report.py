"""The folder that `vsae analyze` writes."""

import shutil
from importlib.resources import as_file, files
from pathlib import Path

from vsae_lightning.dashboard.data_files import Write, writer

PAGES = "vsae_lightning.dashboard"


def new_report(folder: Path) -> Write:
    """Copy the pages and what they load into an empty folder; returns what writes its data."""
    from plotly.offline import get_plotlyjs

    with as_file(files(PAGES) / "pages") as pages:
        shutil.copytree(pages, folder, dirs_exist_ok=True)
    (folder / "assets" / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    return writer(folder)

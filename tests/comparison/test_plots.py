"""Plots before they are drawn, and the files that they become."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from run_folders import model, write_result, write_run
from vsae_lightning.comparison.gather import gather
from vsae_lightning.comparison.groups import Group, group, of_the_paper
from vsae_lightning.comparison.pages import write_page, write_script
from vsae_lightning.comparison.pictures import write_picture
from vsae_lightning.comparison.plots import Plot, label_places, plots
from vsae_lightning.comparison.quantities import THRESHOLDS


def groups_of(folder: Path, name: str = "SAE") -> list[Group]:
    runs = []
    for k, seed, value in ((4, 0, 0.5), (4, 1, 0.7), (8, 0, 0.8)):
        test = {"test/explained_variance": value, "test/l0": float(k)}
        runs.append(write_run(folder / f"{k}_{seed}", model(name, k), seed, test))
        with SummaryWriter(str(runs[-1])) as writer:
            for step in (9, 19):
                writer.add_scalar("train/explained_variance", value * (step + 1) / 20, step)
        metrics = {f"scr_metric_threshold_{n}": value + n / 1000 for n in THRESHOLDS}
        write_result(runs[-1], "scr", runs[-1].name, {"scr_metrics": metrics})
    return group(gather([str(run) for run in runs]))


def by_stem(groups: list[Group]) -> dict[str, Plot]:
    return {plot.stem: plot for plot in plots(groups)}


def test_a_family_is_a_line_over_l0_with_bars_of_its_seeds(tmp_path: Path) -> None:
    drawn = by_stem([*groups_of(tmp_path), *of_the_paper()])
    (line,) = drawn["l0_explained_variance"].series
    assert line.name == "SAE"
    first, second = line.marks
    assert first.x == 4.0
    assert first.y == pytest.approx(0.6)
    assert first.y_std == pytest.approx(0.02**0.5)  # of 0.5 and 0.7
    assert (second.x, second.y, second.y_std) == (8.0, 0.8, None)
    published = {line.name: line.marks for line in drawn["l0_explained_variance_saebench"].series}
    assert list(published) == ["paper TopK", "paper vSAE"]
    assert [(mark.x, mark.y) for mark in published["paper vSAE"]] == [
        (64, 0.8008),
        (128, 0.8516),
        (256, 0.9062),
        (512, 0.9414),
    ]
    assert drawn["l0_ce_loss_score"].series[0].name == "paper TopK"  # what no run has is the paper's alone
    assert drawn["l0_explained_variance_saebench"].legend == "paper: Baker & Li 2025, arXiv 2509.22994"


def test_over_n_and_over_tokens(tmp_path: Path) -> None:
    drawn = by_stem(groups_of(tmp_path))
    assert set(drawn) == {"l0_explained_variance", "scr", "training_explained_variance"}
    four, eight = drawn["scr"].series
    assert [mark.x for mark in four.marks] == [2, 5, 10, 20, 50, 100, 500]
    assert four.marks[0].y == pytest.approx(0.602)
    assert eight.marks[-1].y == pytest.approx(1.3)
    curve = drawn["training_explained_variance"].series[0].marks
    assert [mark.x for mark in curve] == [1000, 2000]  # step 9 is the tenth, of 100 activations each
    assert [mark.y for mark in curve] == pytest.approx([0.3, 0.6])
    assert curve[-1].y_std == pytest.approx(0.02**0.5)


def test_every_line_has_a_look_of_its_own(tmp_path: Path) -> None:
    series = by_stem([*groups_of(tmp_path), *of_the_paper()])["scr"].series
    assert len({line.look for line in series}) == len(series) == 6


def test_labels_are_apart(tmp_path: Path) -> None:
    plot = by_stem([*groups_of(tmp_path), *of_the_paper()])["scr"]
    heights = sorted(y for x, y in label_places(plot) if x > 1)
    assert len(heights) == 6
    assert all(after - before > 0.064 for before, after in pairwise(heights))
    assert heights[0] >= 0
    assert heights[-1] <= 1


def test_files_are_pictures_and_pages_that_ask_nothing_of_a_network(tmp_path: Path) -> None:
    groups = groups_of(tmp_path, name="<b>$x$</b><script>alert(1)</script>")
    folder = tmp_path / "out"
    write_script(folder)
    for plot in plots(groups):
        write_picture(plot, folder)
        write_page(plot, folder)
        assert (folder / f"{plot.stem}.png").read_bytes().startswith(b"\x89PNG")
        page = (folder / f"{plot.stem}.html").read_text()
        assert re.findall(r'(?:src|href)\s*=\s*"([^"]*)"', page) == ["plotly.min.js"]
        assert not re.search(r"""(?:@import|url\(|fetch\(|["'](?:https?:)?//)""", page)
        assert "<script>alert" not in page
        assert "<b>$x$" not in page
        # For plotly, which reads <b> in a text as bold, it is &lt;b&gt;; in JSON within a script, < is \u003c.
        assert "&lt;b&gt;" in page or r"\u0026lt;b\u0026gt;" in page
    assert {path.name for path in folder.iterdir()} == {"plotly.min.js"} | {
        f"{plot.stem}{suffix}" for plot in plots(groups) for suffix in (".png", ".html")
    }

"""Cells by hand: means, standard deviations, dashes, marks; and nothing in a name is markup."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from run_folders import model, write_result, write_run
from vsae_lightning.comparison.gather import gather
from vsae_lightning.comparison.groups import Group, group, of_the_paper
from vsae_lightning.comparison.tables import as_json, cell, markdown, notes, parts, rich_tables


def three_seeds(folder: Path) -> list[Group]:
    runs = [
        write_run(folder / f"run_{seed}", model(seed=seed), seed, {"test/explained_variance": value, "test/l0": 8.0})
        for seed, value in enumerate((0.7, 0.8, 0.9))
    ]
    write_result(runs[0], "scr", "run_0", {"scr_metrics": {"scr_metric_threshold_2": 0.25}})
    other = write_run(folder / "other", model(k=4), fit={"val/explained_variance": 0.5})
    return group(gather([*map(str, runs), str(other)]))


def test_seeds_are_one_row(tmp_path: Path) -> None:
    seeds, other = three_seeds(tmp_path)
    assert (seeds.name, other.name) == ("SAE k=8", "SAE k=4")
    assert seeds.members == ("run_0", "run_1", "run_2")
    assert cell(seeds, "explained_variance") == "0.8000 ± 0.1000"  # sqrt((0.01 + 0 + 0.01) / 2)
    assert cell(seeds, "l0") == "8.0000 ± 0.0000"
    assert cell(seeds, "scr_2") == "0.2500 (n=1)"
    assert cell(seeds, "kl") == "-"
    assert cell(other, "explained_variance") == "0.5000*"


def test_a_group_is_from_one_source(tmp_path: Path) -> None:
    """One seed was tested, both were validated: the mean is of both, and not of two different splits."""
    one = write_run(tmp_path / "a", model(), 0, {"test/l0": 1.0}, {"val/l0": 2.0})
    two = write_run(tmp_path / "b", model(), 1, fit={"val/l0": 4.0})
    (both,) = group(gather([str(one), str(two)]))
    assert both.values["l0"].values == (2.0, 4.0)
    assert both.values["l0"].source == "fit"
    assert cell(both, "l0") == "3.0000 ± 1.4142*"  # sqrt(1 + 1)


def test_parts_have_a_row_per_group_and_no_part_is_empty(tmp_path: Path) -> None:
    found = {part.title: part for part in parts(three_seeds(tmp_path))}
    assert list(found) == ["reconstruction", "SCR", "settings that differ"]
    assert found["SCR"].rows == [["SAE k=8", "3", "0.2500 (n=1)", *"------"], ["SAE k=4", "1", *"-------"]]
    assert found["settings that differ"].rows == [["sparsifier.k", "8", "4"]]


def test_the_paper_is_beside_them(tmp_path: Path) -> None:
    found = {part.title: part for part in parts([*three_seeds(tmp_path), *of_the_paper()])}
    rows = {row[0]: row for row in found["reconstruction"].rows}
    assert rows["paper vSAE k=64"][1:7] == ["1", "-", "0.8008", "0.8529", "-", "0.0490"]
    assert [row[0] for row in found["SCR"].rows][2:] == [
        f"paper {x} k={k}" for x in ("TopK", "vSAE") for k in (256, 512)
    ]
    assert found["settings that differ"].header == ["setting", "SAE k=8", "SAE k=4"]


def test_the_same_seed_twice_is_counted_once(tmp_path: Path) -> None:
    twice = [str(write_run(tmp_path / name, model(), 5, {"test/l0": 8.0})) for name in "ab"]
    (one,) = groups = group(gather(twice))
    assert "b and a are one seed (they share settings and seeds): counted once" in notes(groups)
    assert cell(one, "l0") == "8.0000"
    assert one.values["l0"].std is None
    assert not any("share" in note for note in notes(three_seeds(tmp_path / "three")))


def test_groups_of_one_name_are_told_apart_by_their_runs(tmp_path: Path) -> None:
    """An option that only one has, as of an older version, differs from nothing."""
    runs = [write_run(tmp_path / "a", model(), test={"test/l0": 8.0})]
    runs.append(write_run(tmp_path / "b", model(new=1), test={"test/l0": 8.0}))
    names = [one.name for one in group(gather([*map(str, runs)]))]
    assert len(set(names)) == 2


def test_names_are_literal(tmp_path: Path) -> None:
    name = "<b>|[red]x_y*"
    spec = {"class_path": name, "init_args": {}}
    groups = group(gather([str(write_run(tmp_path / "run", spec, test={"test/l0": 8.0}))]))
    text = markdown(parts(groups), [])
    assert r"| \<b\>\|\[red\]x\_y\* | 1 |" in text
    out = io.StringIO()
    console = Console(file=out, width=200)
    for table in rich_tables(parts(groups)):
        console.print(table)
    assert name in out.getvalue()


def test_control_characters_of_a_stranger_reach_neither_terminal_nor_markdown(tmp_path: Path) -> None:
    odd = "x\x1b[2J\n| forged | 1 |\x07"
    runs = []
    for k in (1, 2):
        settings: dict[str, Any] = {odd: odd * k}
        logged = {"test/l0": 8.0, "test/explained_variance": 0.5}
        runs.append(write_run(tmp_path / str(k), model(k=k, **settings), test=logged))
    write_result(runs[0], "geometry", "1", {}, {odd: 0.25})
    found = parts(group(gather([*map(str, runs)])))
    out = io.StringIO()
    console = Console(file=out, width=200)
    for table in rich_tables(found):
        console.print(table)
    text = markdown(found, [])
    assert [part.header[2] for part in found if part.title == "geometry"] == ["x?[2J?| forged | 1 |?"]
    assert not any(character in out.getvalue() + text for character in "\x1b\x07")
    assert "\n| forged" not in text


def test_json_has_every_seed_and_source(tmp_path: Path) -> None:
    groups = three_seeds(tmp_path)
    (first, second) = as_json(groups, ["note"], ["vsae test x"])["groups"]
    assert first["runs"] == ["run_0", "run_1", "run_2"]
    assert first["seeds"] == [[0, 0, None], [1, 1, None], [2, 2, None]]
    assert first["metrics"]["explained_variance"]["values"] == [0.7, 0.8, 0.9]
    assert first["metrics"]["scr_2"] == {"mean": 0.25, "std": None, "values": [0.25], "source": "scr", "n": 1}
    assert second["settings"]["sparsifier.k"] == 4

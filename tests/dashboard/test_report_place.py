"""Where a report goes: in place of another one, and of nothing else."""

from pathlib import Path

import pytest
import torch

from observations import all_alive, observation
from vsae_lightning.dashboard.data_files import read_data, write_data
from vsae_lightning.dashboard.report import Analysed, Shown, replacing_report, write_report
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.evaluation import untracked


def write(folder: Path, name: str) -> None:
    with replacing_report(folder) as temporary:
        write_data(temporary, "manifest", {"name": name})


def test_a_report_takes_the_place_of_another_and_of_what_was_left_behind(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "report"
    write(folder, "one")
    (folder.parent / ".report.k1lled_0").mkdir()
    (folder.parent / ".report.k1lled_0" / "half.js").touch()
    write(folder, "two")
    assert read_data(folder, "manifest") == {"name": "two"}
    assert list(folder.parent.iterdir()) == [folder]


def test_what_is_no_report_is_kept(tmp_path: Path) -> None:
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter").write_text("words")
    file = tmp_path / "file"
    file.write_text("words")
    for place in (mine, file):
        with pytest.raises(InputError, match="is there already and is no report"):
            write(place, "one")
    assert (mine / "chapter").read_text() == file.read_text() == "words"
    assert sorted(tmp_path.iterdir()) == [file, mine]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    write(tmp_path / "report", "one")
    assert read_data(tmp_path / "report", "manifest") == {"name": "one"}


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written: "):
        write(tmp_path / "file" / "report", "one")


def test_a_failure_leaves_the_report_that_was_there(tmp_path: Path) -> None:
    write(tmp_path / "report", "one")
    with pytest.raises(OSError, match="disk"), replacing_report(tmp_path / "report"):
        raise OSError("disk")
    assert read_data(tmp_path / "report", "manifest") == {"name": "one"}
    assert list(tmp_path.iterdir()) == [tmp_path / "report"]


def test_a_dead_dictionary_is_not_compared_and_nothing_else_is_computed_first(tmp_path: Path) -> None:
    living, dead = all_alive(torch.eye(3)), observation(torch.eye(3), torch.zeros(5, 3), "dead")
    mine, other = Analysed(Path("living"), None, living), Analysed(Path("dead"), None, dead)
    with pytest.raises(InputError, match="against: fewer than two features of dead fire in the text"):
        write_report(tmp_path, mine, other, Shown(), "vsae analyze", "key", untracked)
    assert not (tmp_path / "data").exists()

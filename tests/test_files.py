import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from vsae_lightning.files import replacing, replacing_folder, write_json


@pytest.fixture
def umask_027() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_the_file_appears_whole_under_its_name_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "file.txt"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename across file systems is not atomic
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_an_existing_file_is_whole_until_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("umask_027")
def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    with replacing(tmp_path / "file.txt") as temporary:
        temporary.write_text("")
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o640
    assert os.umask(0o027) == 0o027


def test_json_is_read_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "content.json"
    write_json(path, {"b": [1, 2.5, math.inf], "a": {"é": True}, "nan": math.nan})
    text = path.read_text(encoding="utf-8")
    content = json.loads(text)
    assert content == {"b": [1, 2.5, None], "a": {"é": True}, "nan": None}  # JSON has no word for the infinite
    assert list(content) == ["b", "a", "nan"]
    assert text.endswith("}\n")


def test_json_that_cannot_be_written_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "content.json"
    write_json(path, {"kept": 1})
    with pytest.raises(TypeError):
        write_json(path, {"bad": object()})
    assert json.loads(path.read_text()) == {"kept": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole_and_alone(tmp_path: Path, umask_027: None) -> None:
    path = tmp_path / "deep" / "folder"
    with replacing_folder(path) as temporary:
        (temporary / "file").write_text("new")
        assert not path.exists()
    assert (path / "file").read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_was_not_finished_leaves_nothing(tmp_path: Path) -> None:
    def fill_and_fail() -> None:
        with replacing_folder(tmp_path / "folder") as temporary:
            (temporary / "file").touch()
            (temporary / "not there").unlink()

    with pytest.raises(FileNotFoundError):
        fill_and_fail()
    assert list(tmp_path.iterdir()) == []


def test_what_a_folder_holds_beside_stays_and_what_is_stale_goes(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    for name in ("file", "stale", "other"):
        (path / name).write_text("old")
    with replacing_folder(path, stale=("stale", "not there")) as temporary:
        (temporary / "file").write_text("new")
        assert (path / "stale").exists()
    assert {file.name: file.read_text() for file in path.iterdir()} == {"file": "new", "other": "old"}
    assert list(tmp_path.iterdir()) == [path]

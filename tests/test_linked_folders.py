"""However a writer is stopped, the link points to a whole folder, and the next writer leaves no trace of it."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from vsae_lightning.linked_folders import prepare, publish


def write(link: Path, step: int) -> None:
    writing = prepare(link)
    for name in ("a", "b"):
        (writing / name).write_text(str(step))
    publish(writing, f"sharded-{step}", link)


def content(link: Path) -> set[str]:
    return {(link / name).read_text() for name in ("a", "b")}


def test_a_folder_takes_the_place_of_the_last(tmp_path: Path) -> None:
    link = tmp_path / "checkpoints" / "last.ckpt"
    for step in (1, 2, 2, 3):
        write(link, step)
        assert content(link) == {str(step)}
        assert len(list(link.parent.iterdir())) == 2
    assert link.readlink() == Path("sharded-3")


def test_what_others_put_there_stays(tmp_path: Path) -> None:
    link, best = tmp_path / "last.ckpt", tmp_path / "best.ckpt"
    write(best, 1)
    for name in ("sharded-notes", "other"):
        (tmp_path / name).mkdir()
    link.write_text("an ordinary checkpoint")
    write(link, 1)
    assert content(best) == content(link) == {"1"}
    assert {path.name for path in tmp_path.iterdir()} == {
        "best.ckpt",
        "last.ckpt",
        "sharded-1",
        "sharded-1-1",
        "sharded-notes",
        "other",
    }


@pytest.mark.parametrize(
    ("module", "function"),
    [(os, "mkdir"), (os, "rename"), (os, "symlink"), (os, "replace"), (os, "fsync"), (shutil, "rmtree")],
)
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_moment(
    module: Any, function: str, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "last.ckpt"
    write(link, 1)
    original = getattr(module, function)

    def kill(*args: Any, **kwargs: Any) -> None:
        if after:
            original(*args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, function, kill)
        with pytest.raises(KeyboardInterrupt):
            write(link, 2)
    assert content(link) in ({"1"}, {"2"})
    write(link, 3)
    assert content(link) == {"3"}
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "sharded-3"}


def test_killed_while_writing(tmp_path: Path) -> None:
    link = tmp_path / "last.ckpt"
    write(link, 1)
    (prepare(link) / "a").write_text("2")
    assert content(link) == {"1"}
    write(link, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "sharded-3"}

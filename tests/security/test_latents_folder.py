"""`vsae predict` removes what `vsae predict` wrote, and reads nothing else."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import vsae_lightning as vl
from refusals import listing
from vsae_lightning.cli import main
from vsae_lightning.files import record
from vsae_lightning.latent_shards import begin_index, clear_latents, shard_name, write_index

INDEX = "index.json"


def write(folder: Path, shards: int = 2, whole: bool = True) -> Path:
    begin_index(folder)
    for batch in range(shards):
        save_file({"latents": torch.full((2, 3), float(batch))}, folder / shard_name(0, batch))
    if whole:
        write_index(folder)
    return folder


def test_what_was_written_is_read(tmp_path: Path) -> None:
    shards = list(vl.read_latents(write(tmp_path / "latents")))
    assert [shard["latents"][0, 0] for shard in shards] == [0, 1]


def test_an_index_of_before_is_read_and_cleared(tmp_path: Path) -> None:
    folder = write(tmp_path / "latents")
    (folder / INDEX).write_text(json.dumps({"shards": {shard_name(0, 0): record(folder / shard_name(0, 0))}}))
    (folder / shard_name(0, 1)).unlink()
    assert len(list(vl.read_latents(folder))) == 1
    clear_latents(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("whole", [True, False])
def test_shards_go_and_all_else_stays(whole: bool, tmp_path: Path) -> None:
    folder = write(tmp_path / "latents", whole=whole)
    (folder / "notes.txt").write_text("mine")
    (folder / "latents-best.safetensors").write_text("mine")
    (folder / f".{shard_name(0, 7)}.ab12_xyz").write_text("of a killed writer")
    (folder / f".{shard_name(0, 7)}.backup").write_text("mine")
    clear_latents(folder)
    kept = {path.name for path in folder.iterdir()}
    assert kept == {"notes.txt", "latents-best.safetensors", f".{shard_name(0, 7)}.backup"}


def test_an_interrupted_call_is_not_read_and_can_be_repeated(tmp_path: Path) -> None:
    folder = write(tmp_path / "latents", whole=False)
    with pytest.raises(vl.InputError, match="holds no whole latents, for vsae predict did not end"):
        next(vl.read_latents(folder))
    clear_latents(folder)
    assert len(list(vl.read_latents(write(folder)))) == 2


def test_nothing_to_clear_is_no_error(tmp_path: Path) -> None:
    clear_latents(tmp_path / "not there")
    clear_latents(tmp_path)


def link_of_a_shard(folder: Path) -> None:
    (folder / shard_name(0, 0)).unlink()
    (folder / shard_name(0, 0)).symlink_to(folder.parent / "victim")


VICTIMS: dict[str, Callable[[Path], object]] = {
    "files without an index": lambda folder: (folder / INDEX).unlink(),
    "an index that is no JSON": lambda folder: (folder / INDEX).write_text("{"),
    "an index of others": lambda folder: (folder / INDEX).write_text('{"weight_map": {}}'),
    "a list": lambda folder: (folder / INDEX).write_text("[1]"),
    "a name that leaves": lambda folder: (folder / INDEX).write_text('{"shards": {"../victim": {}}}'),
    "an absolute name": lambda folder: (folder / INDEX).write_text(f'{{"shards": {{"{folder.parent}/victim": 1}}}}'),
    "a name of others": lambda folder: (folder / INDEX).write_text('{"shards": {"victim": {}}}'),
    "a shard that no index names": lambda folder: (folder / shard_name(1, 0)).write_text("mine"),
    "a shard that is a folder": lambda folder: (folder / shard_name(1, 0)).mkdir(),
    "a shard that is a link": link_of_a_shard,
    "an index too large": lambda folder: (folder / INDEX).write_text(" " * 21_000_000),
}


@pytest.mark.parametrize("spoil", VICTIMS.values(), ids=VICTIMS)
def test_what_others_wrote_is_not_cleared(spoil: Callable[[Path], object], tmp_path: Path) -> None:
    folder = write(tmp_path / "latents")
    (tmp_path / "victim").write_text("mine")
    spoil(folder)
    before = listing(tmp_path)
    with pytest.raises(vl.InputError, match=r"latents\.folder: .* holds files that vsae predict did not write"):
        clear_latents(folder)
    assert listing(tmp_path) == before


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", [INDEX, shard_name(0, 0)])
def test_a_pipe_is_refused_at_once(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "latents")
    pipe(folder / name)
    with pytest.raises(vl.InputError):
        next(vl.read_latents(folder))
    with pytest.raises(vl.InputError, match="did not write"):
        clear_latents(folder)


def test_a_link_out_of_a_run_is_not_written_through(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default folder lies in a run, which may be a stranger's."""
    victim = write(tmp_path / "victim")
    copied = tmp_path / "run"
    copied.mkdir()
    for name in ("config.yaml", "run.json"):
        (copied / name).write_bytes((run / name).read_bytes())
    (copied / "checkpoints").mkdir()
    (copied / "checkpoints" / "last.ckpt").write_bytes((run / "checkpoints" / "last.ckpt").read_bytes())
    (copied / "latents").symlink_to(victim)
    before = listing(victim)
    with pytest.raises(SystemExit) as exit_:
        main(["predict", str(copied)])
    assert exit_.value.code == 2
    assert "latents: a link, which could lead out of" in capsys.readouterr().err
    assert listing(victim) == before
    (copied / "latents").unlink()
    main(["predict", str(copied)])
    main(["predict", str(copied)])
    assert len(list(vl.read_latents(copied / "latents"))) > 1


def test_a_folder_of_the_user_is_not_cleared(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (shard_name(0, 0), "latents-of-mine.safetensors", "thesis.tex"):
        (tmp_path / name).write_text("mine")
    before = listing(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        main(["predict", str(run), "--latents.folder", str(tmp_path)])
    assert exit_.value.code == 2
    assert "holds files that vsae predict did not write; give another folder" in capsys.readouterr().err
    assert listing(tmp_path) == before

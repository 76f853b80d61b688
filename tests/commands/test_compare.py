"""vsae compare, as a user runs it."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from run_folders import model, write_run
from vsae_lightning.cli import main


def test_real_runs_of_two_seeds_are_one_row(
    run: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["fit", "--config", str(config), "--seed_everything", "4"])
    main(["test", "last"])
    capsys.readouterr()
    untested = tmp_path / "untested"  # whatever other tests wrote into the folder that they share
    shutil.copytree(run, untested, ignore=shutil.ignore_patterns("test.json", "validate.json", "evaluation"))
    main(["compare", str(untested), "last", "--paper"])
    output = capsys.readouterr().out
    folder = tmp_path / "lightning_logs" / "comparison"
    first, *published = json.loads((folder / "table.json").read_text())["groups"]
    fitted = [json.loads((path / "fit.json").read_text()) for path in (run, tmp_path / "lightning_logs" / "version_0")]
    values = [content["val/explained_variance"] for content in fitted]
    assert first["name"] == "VSAE sigma=learned k=6"
    assert first["metrics"]["explained_variance"]["values"] == values
    assert first["metrics"]["explained_variance"]["mean"] == pytest.approx(sum(values) / 2)
    assert first["seeds"] == [[3, None, None], [4, None, None]]
    assert len(published) == 8
    assert f"vsae test {untested}" in output
    assert "vsae test lightning_logs/version_0" not in output  # it was
    assert "Baker & Li 2025" in output
    assert "| paper TopK k=64 | 1 | - | 0.8242 | 0.8824 |" in (folder / "table.md").read_text()
    assert (folder / "training_explained_variance.png").stat().st_size > 10_000


def test_nothing_of_an_earlier_comparison_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    test = {"test/explained_variance": 0.8, "test/l0": 8.0}
    one = write_run(tmp_path / "one", model(), test=test)
    main(["compare", str(one), "--paper", "--output", "out"])
    assert (tmp_path / "out" / "scr.png").is_file()
    (tmp_path / "out" / "mine.png").touch()
    main(["compare", str(one), "--output", "out"])
    left = {path.name for path in (tmp_path / "out").iterdir()}
    plot = {"l0_explained_variance.png", "l0_explained_variance.html"}
    assert left == {"table.md", "table.json", "plotly.min.js", "mine.png", *plot}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "RUNS is missing: vsae compare RUNS ..."),
        (["nowhere"], "'nowhere' does not exist"),
        (["bare"], "has no metrics yet; vsae test bare makes them"),
        (["one", "--output", "file"], "output is 'file', which cannot be made a folder"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "bare", model())
    write_run(tmp_path / "one", model(), test={"test/l0": 8.0})
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *options])
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert complaint in error
    assert error.count("\n") == 1


def test_a_class_of_a_stranger_is_a_name_and_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('executed', 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    run = write_run(tmp_path / "run", model(), test={"test/l0": 8.0})
    content = yaml.safe_load((run / "config.yaml").read_text())
    content["model"]["class_path"] = "evil.Module"
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    main(["compare", "run"])
    assert not (tmp_path / "executed").exists()

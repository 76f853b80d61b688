"""vsae analyze RUN --score, from a run to the scores in its report."""

from pathlib import Path
from typing import Any

import pytest
import torch

import vsae_lightning as vl
from chat_server import Chat, serve
from scripted_models import knows
from vsae_lightning.cli import main
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.dashboard.data_files import read_data
from vsae_lightning.explanation.report_data import ReportData

TOKENS, CONTEXT = 640, 16


def analyze(run: Path, folder: Path, address: str, *options: str) -> None:
    scoring = ["--score", "--scoring.url", address, "--scoring.model", "m", "--scoring.api_key", "sk-4711"]
    main(["analyze", str(run), "--tokens", str(TOKENS), "--output", str(folder), *scoring, *options])


def test_scores_are_added_to_the_report_and_nothing_is_done_twice(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    with serve(Chat(knows)) as served:
        analyze(run, folder, served.address, "--scoring.features", "4")
        asked = len(served.requests)
        shard = (folder / "data" / "features" / "0000.js").stat()
        analyze(run, folder, served.address, "--scoring.features", "4")
        assert len(served.requests) == asked > 0
        assert (folder / "data" / "features" / "0000.js").stat().st_mtime_ns == shard.st_mtime_ns
        analyze(run, folder, served.address, "--scoring.features", "6")
        assert len(served.requests) > asked
    found = read_data(folder, "scores")
    assert read_data(folder, "manifest")["has"]["scores"] is True
    assert len(found["features"]) == 6
    assert all(one["explanation"].startswith("the word") for one in found["features"].values())
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert not any("sk-4711" in text for text in texts)


def test_evidence_is_what_the_autoencoder_does(run: Path, tmp_path: Path) -> None:
    """Dense latents of the raw activations say where a feature fires; no silent window has a token of these."""
    main(["analyze", str(run), "--tokens", str(TOKENS), "--output", str(tmp_path / "report")])
    subject = open_subject(str(run))
    ids = subject.tokens.held_out[: TOKENS // CONTEXT].astype("int64")
    dense: Any = vl.load(run).encode(subject.model.activations(torch.from_numpy(ids))).detach()
    dense[:, 0] = 0  # the first position is context alone
    fires = dense.flatten(0, 1).numpy() != 0
    report = ReportData(tmp_path / "report")
    assert report.living() == fires.any(0).nonzero()[0].tolist()
    silent = 0
    for feature in report.living():
        evidence = report.evidence(feature)
        for window in evidence.silent:
            assert not fires[window.start : window.end, feature].any()
        silent += len(evidence.silent)
        for context in evidence.firing:
            assert fires[context.start : context.end, feature].sum() >= 1
            assert bool(context.peaks)
    windows = [(window["position"], len(window["tokens"])) for window in read_data(report.folder, "windows")["windows"]]
    spans = [slice(start, start + count) for start, count in windows]
    assert silent == sum(not fires[span, feature].any() for span in spans for feature in report.living())


def test_scoring_without_an_endpoint_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(SystemExit) as exit_:
        main(["analyze", str(run), "--tokens", str(TOKENS), "--output", str(tmp_path / "report"), "--score"])
    assert exit_.value.code == 2
    assert "scoring.url is not given" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())

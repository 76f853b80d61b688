"""vsae analyze: the whole command, whose report is what the language model and the autoencoder do by themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vsae_lightning as vl
from vsae_lightning.cli import main
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.dashboard.data_files import read_data

TOKENS, CONTEXT = 640, 16


@pytest.fixture(scope="module")
def report(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("analysis") / "report"
    options = ["--tokens", str(TOKENS), "--features", "0-69,95", "--contexts.strongest", "5"]
    others = ["--against", str(run), "--maps.which", "none", "--maps.samples", "0"]
    main(["analyze", str(run), "--output", str(folder), *options, *others])
    return folder


def test_the_shards_are_those_of_the_raw_activations(run: Path, report: Path) -> None:
    subject = open_subject(str(run))
    ids = subject.tokens.held_out[: TOKENS // CONTEXT].astype(np.int64)
    x = subject.model.activations(torch.from_numpy(ids))
    dense = vl.load(run).encode(x).detach().numpy()
    dense[:, 0] = 0  # the first position is context alone
    dense = dense.reshape(TOKENS, -1)
    table: dict[str, Any] = {column["key"]: column["values"] for column in read_data(report, "columns")["columns"]}
    assert table["density"] == pytest.approx(((dense != 0).sum(0) / 600).tolist(), rel=1e-3)
    shards = [read_data(report, f"features/{shard:04d}")["features"] for shard in (0, 1)]
    assert [page is not None for page in shards[1]] == [True] * 6 + [False] * 25 + [True]
    seen = 0
    for page in [*shards[0], *shards[1][:6], shards[1][31]]:
        column = dense[:, page["feature"]]
        strongest = np.argsort(-column, kind="stable")[:5]
        strongest = strongest[column[strongest] > 0]
        contexts = [context for context in page["contexts"] if context["interval"] == 0]
        assert [context["position"] for context in contexts] == strongest.tolist()
        for context in contexts:
            start = context["position"] - context["at"]
            end = start + len(context["tokens"])
            assert start // CONTEXT == (end - 1) // CONTEXT
            assert context["tokens"] == ids.ravel()[start:end].tolist()
            values = {offset: value for offset, value in enumerate(column[start:end].tolist()) if value}
            assert dict(context["values"]) == pytest.approx(values, rel=1e-3)
            seen += 1
    assert seen > 100


def test_the_vocabulary_spells_the_text(run: Path, report: Path) -> None:
    subject = open_subject(str(run))
    tokens = read_data(report, "vocabulary")["tokens"]
    ids = subject.tokens.held_out[0].tolist()
    text = b"".join(token.encode() if isinstance(token, str) else bytes(token) for token in (tokens[i] for i in ids))
    assert text.decode() == subject.model.tokenizer.decode(ids)


def test_the_other_run_has_the_same_data_of_all_its_features(report: Path) -> None:
    assert read_data(report, "other/columns") == read_data(report, "columns")
    assert read_data(report, "other/features/0000") == read_data(report, "features/0000")
    mine, other = (read_data(report, f"{prefix}features/0001")["features"] for prefix in ("", "other/"))
    assert [page["feature"] for page in other] == list(range(64, 96))
    assert [page for page in other if page["feature"] in (*range(64, 70), 95)] == [page for page in mine if page]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--features", "90-96"], "features: '90-96' is no feature and no range of them; they are 0 to 95"),
        (["--tokens", "3"], "tokens is 3; it must be at least one sequence of 16"),
        (["--contexts.intervals", "0"], "contexts.intervals is 0; it must be at least 1"),
    ],
)
def test_nonsense_is_refused_in_one_line(
    run: Path, tmp_path: Path, options: list[str], complaint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["analyze", str(run), "--output", str(tmp_path / "report"), *options])
    assert exit_.value.code == 2
    assert complaint in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_how_to_make_it_again_names_the_run_that_was_last(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parents[1])
    words = ["--tokens", "32", "--maps.which", "none", "--maps.samples", "0"]
    main(["analyze", "last", "--against", "last", "--output", str(tmp_path / "report"), *words])
    again = read_data(tmp_path / "report", "overview")["reproduce"][-1]
    place = f"lightning_logs/{run.name}"
    assert again.startswith(f"vsae analyze {place} ")
    assert f"--against {place} " in again

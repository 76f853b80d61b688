"""vsae analyze --against: two runs of one hook are compared; others are refused in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.nn import functional as F

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.sparsifiers import ReLU
from vsae_lightning.autoencoders.storage import save
from vsae_lightning.cli import main
from vsae_lightning.dashboard.data_files import read_data
from vsae_lightning.loading import load

TOKENS = ["--tokens", "640"]


@pytest.fixture(scope="module")
def fit(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains an ensemble of one SAE, with other options of the data."""

    def make(**data: Any) -> Path:
        folder = tmp_path_factory.mktemp("other")
        content = yaml.safe_load(config.read_text())
        content["data"]["init_args"] |= data
        member = {"d_sae": 40, "sparsifier": {"class_path": "TopK", "init_args": {"k": 4}}, "seed": 5}
        members = {"topk": {"class_path": "SAE", "init_args": member}}
        content["model"] = {"class_path": "Ensemble", "init_args": {"members": members}}
        (folder / "run.yaml").write_text(yaml.safe_dump(content))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            main(["fit", "--config", "run.yaml"])
        return folder / "lightning_logs" / "version_0"

    return make


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_a_run_and_a_member_of_another(run: Path, fit: Callable[..., Path], tmp_path: Path) -> None:
    other = fit()
    main(["analyze", str(run), "--against", f"{other}:topk", "--output", str(tmp_path / "report"), *TOKENS])
    found = read_data(tmp_path / "report", "compare")
    assert found["names"] == ["version_0", "version_0_topk"]
    mine, its = load(run).W_dec.detach(), load(other, member="topk").W_dec.detach()
    assert found["pairs"]
    for one, two, cosine in found["pairs"]:
        assert cosine == pytest.approx(float(F.cosine_similarity(mine[one], its[two], dim=0)), rel=1e-3)
    numbers = {number["name"]: number for number in found["numbers"]}
    assert numbers["features"]["mine"] == 96
    assert numbers["features"]["other"] == 40
    assert numbers["L0"]["other"] == 4
    assert numbers["mean sigma"]["mine"] > 0
    assert numbers["mean sigma"]["other"] is None
    assert max(found["map"]["other"]) < 40


def test_without_another_there_is_no_comparison(run: Path, tmp_path: Path) -> None:
    main(["analyze", str(run), "--output", str(tmp_path / "report"), *TOKENS])
    assert not (tmp_path / "report" / "data" / "compare.js").exists()


def test_another_hook_is_refused(
    run: Path, fit: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = fit(hook_name="blocks.0.hook_resid_post")
    message = refusal(["analyze", str(run), "--against", f"{other}:topk", "--output", str(tmp_path / "r")], capsys)
    assert "against: version_0_topk is for hook_name 'blocks.0.hook_resid_post'" in message
    assert not (tmp_path / "r").exists()


@torch.no_grad()
def test_another_width_and_what_is_no_run_are_refused(
    run: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(SparseAutoencoder(3, 5, ReLU()), tmp_path / "narrow")
    known = ["--model_name", str(tiny_model), "--hook_name", "blocks.1.hook_resid_post"]
    start = ["analyze", str(run), "--output", str(tmp_path / "r"), "--against"]
    assert "against: narrow has d_in 3, version_0 32" in refusal([*start, str(tmp_path / "narrow"), *known], capsys)
    assert "against is 'nowhere': " in refusal([*start, "nowhere"], capsys)
    assert "is no ensemble" in refusal([*start, f"{run}:topk"], capsys)

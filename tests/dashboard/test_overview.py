"""The data of the first page, against the files of the run and against a recount."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.observation import Observation, observe
from vsae_lightning.analysis.training_usage import TrainingUsage
from vsae_lightning.autoencoders.storage import save
from vsae_lightning.cli import main
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.dashboard.data_files import read_data
from vsae_lightning.dashboard.overview import MAX_POINTS, manifest, overview, thinned
from vsae_lightning.evaluation.evaluation import untracked
from vsae_lightning.interop.public import public_value
from vsae_lightning.loading import load, origin_of

TOKENS = 3200


def observed(place: Path) -> Observation:
    subject = open_subject(str(place))
    (observation,) = observe([subject], Excerpt.of(subject, TOKENS), untracked)
    return observation


@pytest.fixture(scope="module")
def observation(run: Path) -> Observation:
    return observed(run)


@pytest.fixture(scope="module")
def page(run: Path, observation: Observation) -> dict[str, Any]:
    return overview(observation, run, None, TrainingUsage.of(run), 0.25, "vsae analyze RUN")


def values(page: dict[str, Any], source: str) -> dict[str, float]:
    return {number["key"]: number["value"] for number in page["numbers"] if number["source"] == source}


def test_numbers_of_the_text_are_recounted(run: Path, observation: Observation, page: dict[str, Any]) -> None:
    subject = observation.subject
    tokens = np.concatenate([subject.tokens.held_out, subject.tokens.train])[: TOKENS // 16]
    rows = subject.activations(next(iter(observation.excerpt.batches(len(tokens))))[0])
    latents = load(run).encode(rows).numpy()
    density, l0 = (latents != 0).mean(axis=0), (latents != 0).sum(axis=1)
    error = (rows.numpy() - load(run).decode(load(run).encode(rows)).numpy()) ** 2
    assert values(page, "this report") == pytest.approx(
        {
            "explained_variance": 1 - error.sum() / ((rows - rows.mean(0)) ** 2).sum().item(),
            "l0": l0.mean(),
            "alive_fraction": (density > 0).mean(),
            "dead": (density == 0).sum(),
            "dense": (density > 0.1).sum(),
            "predicate_f1": 0.25,
        },
        rel=1e-4,
    )
    text = page["text"]
    held_out = len(subject.tokens.held_out)
    assert text == {
        "tokens": TOKENS,
        "rows": TOKENS // 16 * 15,
        "held_out_rows": held_out * 15,
        "context_length": 16,
        "first_offset": 1,
    }
    expected = dict(zip(*np.unique(l0, return_counts=True), strict=True))
    assert dict(zip(page["l0"]["values"], page["l0"]["counts"], strict=True)) == expected
    histogram = page["density"]
    assert (histogram["dead"], histogram["dense"]) == ((density == 0).sum(), (density > 0.1).sum())
    counts, edges = np.histogram(np.log10(density[density > 0]), np.arange(-7, 0.1, 0.25))
    assert histogram["counts"] == counts.tolist()
    assert histogram["edges"] == edges.tolist()


def test_numbers_of_commands_say_of_which(run: Path, page: dict[str, Any]) -> None:
    logged = json.loads((run / "fit.json").read_text())
    of_fit = values(page, "vsae fit, the validation split")
    assert of_fit["explained_variance"] == logged["val/explained_variance"]
    assert of_fit["alive_fraction"] == 1 - logged["val/dead_fraction"]
    assert {number["source"] for number in page["numbers"]} >= {"this report", "vsae fit, the validation split"}


def test_an_l0_off_its_target_is_warned_of(run: Path, page: dict[str, Any], tmp_path: Path) -> None:
    assert page["warnings"] == []
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("report*", "evaluation"))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["init_args"]["sparsifier"]["init_args"]["k"] = 12  # as if half of the latents were lost
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    warned = overview(observed(tmp_path / "run"), tmp_path / "run", None, None, None, "vsae analyze RUN")["warnings"]
    assert warned == [
        "warning: run: held-out L0 is 6.0, 50% below k = 12; compare its other numbers with those of an autoencoder "
        "of equal L0"
    ]


def test_curves_are_those_of_the_training(run: Path, page: dict[str, Any]) -> None:
    logged = json.loads((run / "fit.json").read_text())
    curves = {curve["name"]: curve for curve in page["curves"]}
    assert {"train/loss", "train/l0", "train/kl", "val/explained_variance"} <= curves.keys()
    for name in ("train/l0", "train/reconstruction", "val/explained_variance", "val/loss"):
        assert curves[name]["tokens"][-1] == 12 * 64
        assert curves[name]["values"][-1] == pytest.approx(logged[name], rel=1e-6)
    assert curves["train/l0"]["tokens"] == [64 * step for step in range(1, 13)]
    assert curves["val/loss"]["tokens"] == [6 * 64, 12 * 64]


def test_long_curves_keep_their_last_point() -> None:
    points = list(range(10 * MAX_POINTS + 3))
    assert len(thinned(points)) <= MAX_POINTS
    assert thinned(points)[-2:] == [points[-12], points[-1]]
    assert thinned(points[:7]) == points[:7]


def test_the_run_and_how_to_make_it_again(run: Path, page: dict[str, Any], tiny_model: Path) -> None:
    facts = {fact["name"]: fact["value"] for fact in page["run"]}
    told = {"language model": tiny_model.name, "d_in": "32", "d_sae": "96", "class": "VSAE", "sparsifier": "TopK"}
    told |= {"sparsifier.k": "6", "sigma": "learned", "kl_weight": "0.05", "seed": "3", "tokens of training": "768"}
    assert told.items() <= facts.items()
    assert facts["trained with"].startswith("vsae_lightning 0.")
    assert yaml.safe_load(page["config"]) == public_value(yaml.safe_load((run / "config.yaml").read_text()))
    assert page["reproduce"] == [f"vsae fit --config {run.name}/config.yaml", "vsae analyze RUN"]
    assert {"date", "python", "vsae_lightning", "torch"} <= page["made"].keys()


def test_of_an_export_there_is_what_is_known(run: Path, tmp_path: Path) -> None:
    save(load(run), tmp_path / "whole", origin_of(run)._asdict())
    page = overview(observed(tmp_path / "whole"), tmp_path / "whole", None, None, None, "vsae analyze")
    assert page["curves"] == []
    assert page["reproduce"] == ["vsae analyze"]
    assert yaml.safe_load(page["config"]) == public_value(yaml.safe_load((run / "config.yaml").read_text()))
    assert {"name": "seed", "value": "3"} in page["run"]
    assert "tokens of training" not in {fact["name"] for fact in page["run"]}


def test_the_manifest_says_what_there_is(observation: Observation) -> None:
    has = {"posterior": True, "maps": [], "compare": False, "scores": False, "samples": False}
    content = {"name": "version_0", "kind": "VSAE", "d_sae": 96, "has": has, "shard": 64, "detailed": None}
    assert manifest(observation) == content
    partly = manifest(observation, detailed=[3, 5], maps=["activation"], samples=True)
    assert partly["detailed"] == [3, 5]
    assert partly["has"] == has | {"maps": ["activation"], "samples": True}


def test_the_command_writes_it(run: Path, tmp_path: Path) -> None:
    main(["analyze", str(run), "--tokens", str(TOKENS), "--output", str(tmp_path / "report")])
    page = read_data(tmp_path / "report", "overview")
    assert page["reproduce"][1] == f"vsae analyze {run.name} --tokens {TOKENS} --output report"
    assert read_data(tmp_path / "report", "manifest")["kind"] == "VSAE"
    columns = {column["key"]: column["values"] for column in read_data(tmp_path / "report", "columns")["columns"]}
    usage = TrainingUsage.of(run)
    assert usage is not None
    assert [value or np.nan for value in columns["last_seen"]] == pytest.approx(usage.last, nan_ok=True)
    assert {type(value) for value in columns["first_seen"]} <= {int, type(None)}
    features = [
        feature for shard in (0, 1) for feature in read_data(tmp_path / "report", f"features/{shard:04d}")["features"]
    ]
    scores = [feature["predicate"] and feature["predicate"]["f1"] for feature in features]
    assert scores == columns["predicate_f1"]
    assert any(score is not None for score in scores)

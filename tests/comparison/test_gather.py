"""What is read of run folders."""

import json
from pathlib import Path

import pytest
import torch

from run_folders import model, write_result, write_run
from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.storage import save
from vsae_lightning.autoencoders.topk import TopK
from vsae_lightning.comparison.gather import entry_of, gather
from vsae_lightning.comparison.groups import group
from vsae_lightning.comparison.tables import notes
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.results import weights_digest
from vsae_lightning.loading import load

EVERYTHING = "core,probing,absorption,scr,tpp,meta,geometry,robustness"


def test_the_test_is_told_from_the_validation(tmp_path: Path) -> None:
    fit = {"val/explained_variance": 0.5, "val/dead_fraction": 0.25, "train/explained_variance": 0.9}
    run = write_run(tmp_path / "run", model(), test={"test/explained_variance": 0.6, "test/l0": 8.0}, fit=fit)
    (entry,) = gather([str(run)])
    assert entry.values["explained_variance"] == {"test": 0.6, "fit": 0.5}
    assert entry.values["alive_fraction"] == {"fit": 0.75}
    assert entry.values["l0"] == {"test": 8.0}
    assert entry.name == "run"


def test_results_of_evaluations_in_folders_and_flat(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", model(), test={"test/l0": 8.0})
    quality = {"reconstruction_quality": {"explained_variance": 0.7, "cossim": 0.8}, "misc": {"frac_alive": 0.9}}
    write_result(run, "core", "run", quality, flat=True)
    write_result(run, "tpp", "run", {"tpp_metrics": {"tpp_threshold_5_unintended_diff_only": 0.1}})
    write_result(run, "geometry", "run", {}, {"mean cosine": 0.2})
    write_result(run, "scr", "again", {"scr_metrics": {"scr_metric_threshold_2": 0.4}}, when=7)
    write_result(run, "scr", "run", {"scr_metrics": {"scr_metric_threshold_2": 0.3}}, when=5)
    write_result(run, "saebench/x", "run", {"scr_metrics": {"scr_metric_threshold_2": 0.5}}, when=9, by="5f3a")
    theirs = run / "evaluation" / "saebench" / "x" / "run_custom_sae_eval_results.json"
    theirs.write_text(theirs.read_text().replace("saebench/x", "scr"))
    (entry,) = gather([str(run)])
    assert entry.values["explained_variance_saebench"] == {"core": 0.7}
    assert "explained_variance" not in entry.values
    assert entry.values["cosine"] == {"core": 0.8}
    assert entry.values["alive_fraction"] == {"core": 0.9}
    assert entry.values["tpp_unintended_5"] == {"tpp": 0.1}
    assert entry.values["geometry/mean cosine"] == {"geometry": 0.2}
    assert entry.values["scr_2"] == {"scr": 0.4, "saebench scr": 0.5}  # of ours the later
    assert entry.missing == [f"vsae evaluate {run} --suite probing,absorption,meta,robustness"]


def test_explained_variance_is_never_that_of_saebenchs_formula(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", model(), test={"test/explained_variance": 0.6, "test/cosine": 0.9})
    quality = {"reconstruction_quality": {"explained_variance": 0.7, "cossim": 0.8}, "misc": {"frac_alive": 0.5}}
    ours = write_result(run, "core", "run", quality)
    content = json.loads(ours.read_text())
    content["eval_result_unstructured"]["by_definition"] = {"explained_variance": 0.65, "cosine": 0.85}
    ours.write_text(json.dumps(content))
    write_result(run, "core", "run", quality, flat=True, by="5f3a")
    (entry,) = gather([str(run)])
    assert entry.values["explained_variance"] == {"test": 0.6, "core": 0.65}
    assert entry.values["explained_variance_saebench"] == {"core": 0.7, "saebench core": 0.7}
    assert entry.values["cosine"] == {"test": 0.9, "core": 0.85, "saebench core": 0.8}
    assert entry.values["alive_fraction"] == {"core": 0.5, "saebench core": 0.5}


def test_what_would_make_the_rest(tmp_path: Path) -> None:
    untested = write_run(tmp_path / "a b", model(), fit={"val/l0": 8.0})
    plain = write_run(tmp_path / "plain", model(k=4), test={"test/l0": 4.0})
    spliced = write_run(tmp_path / "spliced", model(k=2), test={"test/l0": 2.0, "test/ce_loss_score": 0.9})
    without_core = EVERYTHING.removeprefix("core,")
    assert [entry.missing for entry in gather([str(untested), str(plain), str(spliced)])] == [
        [f"vsae test '{untested}'", f"vsae evaluate '{untested}' --suite {without_core}"],
        [f"vsae evaluate {plain} --suite {EVERYTHING}"],
        [f"vsae evaluate {spliced} --suite {without_core}"],
    ]


def test_members_of_an_ensemble(tmp_path: Path) -> None:
    members = {"a": model(k=4, seed=1), "b_a": model(k=4, seed=2)}
    spec = {"class_path": "vsae_lightning.Ensemble", "init_args": {"members": members}}
    run = write_run(tmp_path / "run", spec, test={"test/a/l0": 3.0, "test/b_a/l0": 4.0, "test/b_a/kl": 1.0})
    write_result(run, "scr", "run_a", {"scr_metrics": {"scr_metric_threshold_2": 0.1}})
    write_result(run, "scr", "run_b_a", {"scr_metrics": {"scr_metric_threshold_2": 0.2}})
    first, second = gather([str(run)])
    assert (first.name, second.name) == ("run:a", "run:b_a")
    assert (first.values["l0"], second.values["l0"]) == ({"test": 3.0}, {"test": 4.0})
    assert (first.values["scr_2"], second.values["scr_2"]) == ({"scr": 0.1}, {"scr": 0.2})
    assert "kl" not in first.values
    assert first.settings == second.settings
    assert (first.seeds, second.seeds) == ((0, 1, None), (0, 2, None))
    assert "--member b_a --suite" in second.missing[0]
    (picked,) = gather([f"{run}:b_a"])
    assert picked.name == "run:b_a"
    assert [entry.name for entry in gather([f"{run}:b_a", str(run), str(run)])] == ["run:b_a", "run:a"]
    with pytest.raises(InputError, match="no member 'c'; its members are a, b_a"):
        gather([f"{run}:c"])


def checkpoint(path: Path, tokens: int) -> None:
    """A checkpoint of so many tokens, without weights."""
    described = {"hyper_parameters": {"_class_path": "x"}, "state_dict": {}, "autoencoder": {}}
    torch.save({**described, "tokens_seen": tokens}, path)


def exported(folder: Path, metrics: dict[str, float], seed: int = 0) -> Path:
    """An export of 6 latents in 4 dimensions, that was tested in its run."""
    origin = {"provenance": {}, "training": {}, "metrics": metrics, "autoencoder": {}}
    save(SparseAutoencoder(4, 6, TopK(5), seed=seed), folder, origin)
    return folder


def test_an_export_is_known_by_its_results_and_those_of_its_run(tmp_path: Path) -> None:
    folder = exported(tmp_path / "export", {"test/l0": 4.5, "test/explained_variance": 0.75})
    write_result(folder, "core", "export", {"sparsity": {"l0": 5.0}})
    (entry,) = gather([str(folder)])
    assert entry.values == {"l0": {"core": 5.0, "test": 4.5}, "explained_variance": {"test": 0.75}}
    assert {name: entry.settings[name] for name in ("class", "sparsifier", "sparsifier.k", "d_sae")} == {
        "class": "export",
        "sparsifier": "TopK",
        "sparsifier.k": 5,
        "d_sae": 6,
    }
    assert entry.missing == [f"vsae evaluate {folder} --suite {EVERYTHING.removeprefix('core,')}"]


def test_an_export_of_which_nothing_is_known_says_what_makes_it_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no metrics yet; vsae evaluate"):
        gather([str(exported(tmp_path / "export", {}))])


def test_metrics_of_another_checkpoint_are_not_those_of_this_one(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", model(), test={"test/l0": 8.0}, fit={"val/l0": 7.0})
    content = json.loads((run / "test.json").read_text())
    of_step_5 = {"checkpoint": "checkpoints/step=5.ckpt", "train/tokens": 100}
    (run / "test.json").write_text(json.dumps({**content, **of_step_5}))
    (run / "fit.json").write_text(json.dumps({**json.loads((run / "fit.json").read_text()), "train/tokens": 200}))
    (run / "checkpoints").mkdir()
    checkpoint(run / "checkpoints" / "step=5.ckpt", tokens=100)
    checkpoint(run / "checkpoints" / "last.ckpt", tokens=200)
    assert gather([str(run)])[0].values["l0"] == {"fit": 7.0}
    assert gather([str(run / "checkpoints" / "step=5.ckpt")])[0].values["l0"] == {"test": 8.0}


def test_a_test_from_before_the_run_went_on_is_not_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", model(), test={"test/l0": 8.0}, fit={"val/l0": 7.0})
    for name, tokens in (("test.json", 100), ("fit.json", 200)):
        (run / name).write_text(json.dumps({**json.loads((run / name).read_text()), "train/tokens": tokens}))
    (run / "checkpoints").mkdir()
    checkpoint(run / "checkpoints" / "last.ckpt", tokens=200)
    (entry,) = gather([str(run)])
    assert entry.values["l0"] == {"fit": 7.0}
    assert entry.missing[0] == f"vsae test {run}"


def of_weights(result: Path, digest: str) -> None:
    """Give a result the origin that ours have."""
    content = json.loads(result.read_text())
    content["eval_result_unstructured"]["origin"] = {"weights_sha256": digest}
    result.write_text(json.dumps(content))


def test_results_of_other_weights_are_left_out_and_told(tmp_path: Path) -> None:
    folder = exported(tmp_path / "export", {"test/l0": 4.5})
    before = weights_digest(load(folder))
    for type_id in ("core", "scr"):
        of_weights(write_result(folder, type_id, "export", {"a": {"l0": 5.0, "scr_metric_threshold_2": 0.5}}), before)
    write_result(folder, "tpp", "export", {"a": {"tpp_threshold_2_total_metric": 0.25}}, by="5f3a")
    (entry,) = gather([str(folder)])
    assert entry.values["l0"] == {"core": 5.0, "test": 4.5}
    assert entry.notes == []
    exported(folder, {"test/l0": 4.5}, seed=1)
    assert weights_digest(load(folder)) != before
    (entry,) = gather([str(folder)])
    assert entry.values == {"l0": {"test": 4.5}, "tpp_2": {"saebench tpp": 0.25}}
    told = f"2 results of other weights are left out: vsae evaluate {folder} --suite core,scr makes them anew"
    assert entry.notes == [told]
    assert f"export: {told}" in notes(group([entry]))


def test_numbers_that_are_none_are_missing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", model(), test={"test/l0": 8.0})
    content = json.loads((run / "test.json").read_text())
    odd = {"test/cosine": True, "test/kl": "1.0", "test/explained_variance": float("nan"), "test/kl_score": 10**400}
    (run / "test.json").write_text(json.dumps({**content, **odd}))
    assert set(gather([str(run)])[0].values) == {"l0"}


@pytest.mark.parametrize(
    ("run", "complaint"),
    [
        ("nowhere", "'nowhere' does not exist"),
        ("nowhere:a", "'nowhere:a' does not exist"),
        ("x" * 300, "cannot be read: File name too long"),
        ("empty", "no run folder"),
        ("bare", "has no metrics yet; vsae test bare makes them"),
        ("bare:a", "no member 'a'; it is no ensemble"),
        ("torn", "test.json' is no whole JSON of metrics"),
    ],
)
def test_a_bad_run_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "bare", model())
    torn = write_run(tmp_path / "torn", model())
    (torn / "test.json").write_text('{"test/l0": 1')
    with pytest.raises(InputError, match=complaint) as caught:
        gather([run])
    assert "\n" not in str(caught.value)


def test_one_without_metrics_is_refused_in_a_table_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", model(k=4))
    with pytest.raises(InputError, match=r"run' has no metrics yet; vsae test .*run makes them"):
        gather([str(run)])
    entry = entry_of(run, None)
    assert (entry.values, entry.curves, entry.settings["sparsifier.k"]) == ({}, {}, 4)

"""vsae evaluate: what it writes, what it does not compute again, and what it refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from vsae_lightning.cli import main

SMALL = ["--geometry.max_tokens", "320", "--robustness.max_tokens", "160", "--robustness.noise", "[0.1]"]


def evaluate(run: Path, output: Path, *options: str) -> None:
    main(["evaluate", str(run), "--output", str(output), *SMALL, *options])


def written(folder: Path, type_id: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / type_id / "version_0_custom_sae_eval_results.json").read_text())
    return content


def test_each_evaluation_has_its_file_and_all_have_a_summary(run: Path, tmp_path: Path) -> None:
    evaluate(run, tmp_path, "--suite", "geometry, robustness")
    results = {name: written(tmp_path, name) for name in ("geometry", "robustness")}
    for name, result in results.items():
        assert result["eval_type_id"] == name
        assert result["sae_lens_release_id"] == "version_0"
        assert result["sae_cfg_dict"]["hook_name"] == "blocks.1.hook_resid_post"
        assert result["sae_cfg_dict"]["hook_layer"] == 1
        assert (result["sae_cfg_dict"]["d_in"], result["sae_cfg_dict"]["d_sae"]) == (32, 96)
    assert results["geometry"]["eval_config"]["max_tokens"] == 320
    # 20 sequences of 16, without their first positions
    assert results["geometry"]["eval_result_unstructured"]["rows"] == 20 * 15
    summary = json.loads((tmp_path / "version_0_summary.json").read_text())
    assert summary["run"] == "version_0"
    for name, result in results.items():
        assert summary[name] == result["eval_result_unstructured"]["headline"]
    rows = (tmp_path / "version_0_summary.md").read_text().splitlines()
    assert len(rows) == 2 + sum(len(summary[name]) for name in results)
    assert all(row.replace(r"\|", "").count("|") == 4 for row in rows)


def test_what_is_there_is_not_computed_again_unless_it_would_be_another(run: Path, tmp_path: Path) -> None:
    evaluate(run, tmp_path, "--suite", "geometry")
    first = written(tmp_path, "geometry")["eval_id"]
    evaluate(run, tmp_path, "--suite", "geometry")
    assert written(tmp_path, "geometry")["eval_id"] == first
    evaluate(run, tmp_path, "--suite", "geometry", "--geometry.top_pairs", "3")
    second = written(tmp_path, "geometry")["eval_id"]
    assert second != first
    evaluate(run, tmp_path, "--suite", "geometry", "--geometry.top_pairs", "3", "--force")
    assert written(tmp_path, "geometry")["eval_id"] != second


def test_a_result_of_another_hook_or_of_other_text_is_not_this_one(run: Path, tmp_path: Path) -> None:
    evaluate(run, tmp_path, "--suite", "geometry")
    first = written(tmp_path, "geometry")
    evaluate(run, tmp_path, "--suite", "geometry", "--hook_name", "blocks.0.hook_resid_post")
    second = written(tmp_path, "geometry")
    assert second["eval_id"] != first["eval_id"]
    assert second["eval_result_metrics"] != first["eval_result_metrics"]
    for result in (first, second):
        origin = result["eval_result_unstructured"]["origin"]
        assert origin["token_store"] == json.loads((run / "run.json").read_text())["token_store"]["key"]
    assert second["eval_result_unstructured"]["origin"]["provenance"]["hook_name"] == "blocks.0.hook_resid_post"


def test_the_summary_has_what_was_computed_before(run: Path, tmp_path: Path) -> None:
    evaluate(run, tmp_path, "--suite", "robustness")
    evaluate(run, tmp_path, "--suite", "geometry")
    assert list(json.loads((tmp_path / "version_0_summary.json").read_text())) == ["run", "geometry", "robustness"]


def test_a_folder_with_brackets_in_its_name_is_one_like_any_other(run: Path, tmp_path: Path) -> None:
    evaluate(run, tmp_path / "we[/bold]ird", "--suite", "geometry")
    assert written(tmp_path / "we[/bold]ird", "geometry")["eval_type_id"] == "geometry"


def test_local_files_that_are_not_those_of_the_training_are_read_when_trusted(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "version_0"
    shutil.copytree(run, copy)
    origin = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**origin, "token_store": {"key": "another"}}))
    with pytest.raises(SystemExit) as exit_:
        evaluate(copy, tmp_path / "results", "--suite", "geometry")
    assert exit_.value.code == 2
    assert "names local text files, which are not read for a run folder" in capfd.readouterr().err
    with pytest.warns(UserWarning, match="is not that of its training any more"):
        evaluate(copy, tmp_path / "results", "--suite", "geometry", "--trust_text")


def test_a_torn_result_is_computed_again(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "geometry" / "version_0_custom_sae_eval_results.json"
    path.parent.mkdir()
    path.write_text('{"eval_id": "x", "eval_config"')
    evaluate(run, tmp_path, "--suite", "geometry")
    assert written(tmp_path, "geometry")["eval_id"] != "x"


def test_one_that_lacks_something_does_not_keep_the_others(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        evaluate(run, tmp_path, "--suite", "probing,geometry", "--probing.data", str(tmp_path / "nowhere"))
    assert exit_.value.code == 2
    assert "vsae: error: probing was not run: " in capfd.readouterr().err
    assert written(tmp_path, "geometry")["eval_type_id"] == "geometry"
    assert list(json.loads((tmp_path / "version_0_summary.json").read_text())) == ["run", "geometry"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--suite", "geometri"], "suite: there is no 'geometri'; known: core, probing,"),
        (["--suite", " ,"], "suite is empty"),
        (["--member", "a"], "member is 'a', but"),
        (["--device", "cuda:77"], "device is 'cuda:77'"),
        (["--geometry.max_token", "3"], "there is no option --geometry.max_token. Did you mean geometry.max_tokens"),
        (["--by", "sae-bench"], "by is 'sae-bench'; it must be one of"),
        (["--hook_name", "foo"], "has no hook 'foo'"),
        (["--geometry.random_draws", "0"], "geometry.random_draws is 0; it must be at least 1."),
        (["--geometry.max_tokens", "-5"], "max_tokens is -5; it must be at least 0."),
        (["--model_name", "/nowhere"], "model_name: there is no folder '/nowhere'"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str], complaint: str, run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        evaluate(run, tmp_path, "--suite", "geometry", *options)
    assert exit_.value.code == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("vsae: error: ")
    assert complaint in last
    assert not any(tmp_path.iterdir())

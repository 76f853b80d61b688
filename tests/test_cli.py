"""The command line: help at once, bad input in one line with exit status 2, nothing left behind."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import vsae_lightning as vl
from vsae_lightning.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
QUICKSTART = ["--config", str(ROOT / "configs" / "quickstart.yaml")]


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a bad command prints."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vsae: error: ")]
    assert len(lines) == 1
    return lines[0].removeprefix("vsae: error: ")


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments)
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS)


def test_help_loads_neither_torch_nor_lightning() -> None:
    code = "import sys; from vsae_lightning.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"vsae_lightning {vl.__version__}\n"


def test_print_config_resolves_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["fit", *QUICKSTART, "--model.sparsifier.k", "7", "--print_config"])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    assert "class_path: vsae_lightning.VSAE" in printed
    assert "k: 7" in printed


def test_model_help_is_that_of_the_class(capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", "--model", "VSAE", "--model.help"])
    assert "--model.kl_weight" in capsys.readouterr().out


BAD_OPTIONS = [
    (["--model.d_sea", "4"], "model: VSAE has no option 'd_sea'. Did you mean d_sae"),
    (["--model.d_sae", "0"], "d_sae is 0; it must be at least 1."),
    (["--model.d_sae", "many"], "model.d_sae is 'many'; it must be of type int."),
    (["--model.sparsifier.k", "5000"], "TopK: k is 5000, more than the 2048 latents of d_sae"),
    (["--model.sparsifier", "Topk"], "model.sparsifier: there is no class 'Topk'."),
    (["--model.kl_weight", "-1"], "kl_weight is -1.0; it must be at least 0."),
    (
        ["--model.sigma", "learnt"],
        "model.sigma is 'learnt'; it must be one of: float, Literal['learned', 'closed_form'].",
    ),
    (["--model.covariance", "encoder"], "kl_weight must be 0 with covariance: encoder"),
    (["--model.prior", "Laplac"], "there is no class 'Laplac'. Known: CorrelatedNormal, Laplace, ScaledNormal"),
    (["--model.kl_on", "some"], "model.kl_on is 'some'; it must be of type Literal['all', 'selected']."),
    (["--model", "VSEA"], "model: there is no class 'VSEA'. Known: SAE, VSAE, Ensemble."),
    (
        ["--data.hook_name", "blocks.9.hook_resid_post"],
        "(layers 0 to 3) has no hook 'blocks.9.hook_resid_post', as there is no layer 9. Did you mean",
    ),
    (["--data.hook_name", "blocks.2.resid_post"], "Did you mean blocks.2.hook_resid_post"),
    (["--data.model_name", "./nowhere"], "model_name: there is no folder './nowhere'."),
    (["--data.batch_size", "1001"], "batch_size is 1001; it must be a multiple of lanes, 8."),
    (["--data.context_length", "1"], "context_length is 1; it must be larger than drop_positions, 1."),
    (["--data.text.class_path", "TextFile"], "data.text: there is no class 'TextFile'."),
    (["--data.text.pats", "a.txt"], "data.text: BundledText has no option 'pats'."),
    (["--trainer.max_stps", "4"], "there is no option --trainer.max_stps. Did you mean max_steps"),
    (["--model.sparsifer.k", "16"], "there is no option --model.sparsifer.k. Did you mean sparsifier"),
    (["--config", "nowhere.yaml"], "nowhere.yaml"),
    (["--ckpt_path", "nowhere.ckpt"], "ckpt_path: there is no file 'nowhere.ckpt'."),
    (["--checkpoint.every_n_steps", "0"], "checkpoint.every_n_steps is 0; it must be at least 1."),
    (["--skipped_steps.max_skipped_steps", "-1"], "skipped_steps.max_skipped_steps is -1; it must not be negative."),
    (["--data.max_non_finite_sequences", "-1"], "max_non_finite_sequences is -1; it must be at least 0."),
    (["--dead_features.window_tokens", "0"], "dead_features.window_tokens is 0"),
]


@pytest.mark.parametrize(("options", "expected"), BAD_OPTIONS, ids=[" ".join(options) for options, _ in BAD_OPTIONS])
def test_bad_options_are_named(
    options: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in complaint(["fit", *QUICKSTART, *options], capsys)
    assert list(tmp_path.iterdir()) == []


BAD_MEMBERS: list[tuple[Any, str]] = [
    ({"class_path": "SAEE"}, "model.members: there is no class 'SAEE'. Known: SAE, VSAE."),
    ({"init_args": {"d_sea": 8}}, "model.members: SAE has no option 'd_sea'. Did you mean d_sae"),
    ({"init_args": {"d_sae": "many"}}, "model.members.d_sae is 'many'; it must be of type int."),
    ({"init_args": {"decoder": "unitary"}}, "model.members.decoder is 'unitary'; it must be of type Literal"),
    ({"init_args": {"sparsifier": {"class_path": "Topk"}}}, "model.members.sparsifier: there is no class 'Topk'."),
    ({"init_args": {"d_sae": 0}}, "d_sae is 0; it must be at least 1."),
    ({"init_args": {"d_sae": 8, "aux_weight": -1.0}}, "aux_weight is -1.0; it must be at least 0."),
    ({"init_args": {}}, "model.members: SAE needs d_sae."),
]


@pytest.mark.parametrize(("member", "expected"), BAD_MEMBERS, ids=[str(i) for i, _ in enumerate(BAD_MEMBERS)])
def test_bad_members_are_named(
    member: Any, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    init_args = {"sparsifier": {"class_path": "TopK", "init_args": {"k": 4}}, **member.get("init_args", {})}
    members = {"good": {"class_path": "SAE", "init_args": {"d_sae": 8, "sparsifier": {"class_path": "ReLU"}}}}
    members["bad"] = {"class_path": member.get("class_path", "SAE"), "init_args": init_args}
    data = {"d_in": 4, "num_features": 8, "mean_active": 2.0}
    content = {
        "trainer": {"max_steps": 1, "accelerator": "cpu"},
        "model": {"class_path": "Ensemble", "init_args": {"members": members}},
        "data": {"class_path": "SyntheticDataModule", "init_args": data},
    }
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    assert expected in complaint(["fit", "--config", str(path)], capsys)
    assert list(tmp_path.iterdir()) == [path]


BAD_COMMANDS = [
    (
        ["fitt"],
        "unknown command 'fitt'; commands: tokenize, fit, validate, test, predict, evaluate, analyze, compare, export. "
        "Did you mean fit",
    ),
    (["fit"], "--data, --model is missing: give --config FILE.yaml"),
    (["fit", "lightning_logs/version_0"], "fit takes no RUN"),
    (["test", "lightning_logs/version_9"], "RUN: 'lightning_logs/version_9' does not exist"),
    (["test", *QUICKSTART], "test needs a trained model: give RUN, or --ckpt_path."),
    (["predict", "last"], "RUN: there is no run in lightning_logs yet"),
]


@pytest.mark.parametrize(("arguments", "expected"), BAD_COMMANDS, ids=[" ".join(a[:2]) for a, _ in BAD_COMMANDS])
def test_bad_commands_are_named(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in complaint(arguments, capsys)
    assert list(tmp_path.iterdir()) == []


def test_bad_data_leaves_nothing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "cache"
    text = tmp_path / "rows.jsonl"
    text.write_text('{"content": "a"}\n')
    data = ["--data.model_name", str(tiny_model), "--data.hook_name", "blocks.1.hook_resid_post"]
    data += ["--data.text", "TextFiles", "--data.text.paths", str(text), "--data.cache_dir", str(cache)]
    data += ["--data.context_length", "64"]
    message = complaint(["fit", *QUICKSTART, *data], capsys)
    assert "line 1 has no text in column 'text'; columns: content." in message
    assert not cache.exists()
    assert not (tmp_path / "lightning_logs").exists()


def test_a_model_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "trainer.max_steps is not set" in complaint(["fit", *QUICKSTART, "--trainer.max_steps", "-1"], capsys)


def test_checkpoint_of_another_program_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": 1}, "other.ckpt")
    message = complaint(["test", *QUICKSTART, "--ckpt_path", "other.ckpt"], capsys)
    assert message == "other.ckpt: a checkpoint, but not one of vsae_lightning."


HELPS = {
    "after its class": (["--data", "ActivationDataModule", "--data.help"], "--data.hook_name"),
    "before its class": (["--data.text.help", "TextFiles"], "--data.text.separator"),
    "of a class that an option names": (["--data.text", "TextFiles", "--data.text.help"], "--data.text.separator"),
    "alone": (["--model.sparsifier.help", "BatchTopK"], "--model.sparsifier.k_anneal_steps"),
    "with an equals sign": (["--model.sparsifier.help=BatchTopK"], "--model.sparsifier.k_anneal_steps"),
    "of an optimizer": (["--model.optimizer.help", "torch.optim.Adam"], "--model.optimizer.betas"),
}


@pytest.mark.parametrize(("options", "shown"), HELPS.values(), ids=HELPS)
def test_each_help_is_that_of_the_class(options: list[str], shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", *options])
    printed = capsys.readouterr().out
    assert shown in printed
    assert "--data.d_in" not in printed


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--model.k", "3"], "model: VSAE has no option 'k'. Did you mean --model.sparsifier.k?"),
        (["--model.lr", "0.1"], "Did you mean --model.optimizer.lr?"),
        (["--data.layer", "3"], "Did you mean --data.hook_name?"),
        (["--trainer.max_s", "3"], "there is no option --trainer.max_s. Did you mean max_steps"),
        (["--model.d_in", "512"], "--model.d_in: the data decide the width of the activations"),
        (
            ["--data.text", "TextFiles", "--data.text.field", "x"],
            "TextFiles has no option 'field'. Did you mean column?",
        ),
        (["--data.text", "TextFiles", "--data.text.zzz", "x"], "Its options are paths, column, separator"),
        (["--model.help", "VSEA"], "model: there is no class 'VSEA'. Did you mean VSAE"),
        (["--model.sparsifier.help"], "asks about a class: give --model.sparsifier CLASS"),
    ],
)
def test_neighbours_in_meaning_are_named(options: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["fit", *QUICKSTART, *options])
    assert exit_.value.code == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_the_help_of_an_evaluation_says_run(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert f"usage: vsae {command} RUN [--option VALUE ...]" in capsys.readouterr().out


def test_a_config_may_come_through_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As of `--config <(...)`, which can be read once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = Path(QUICKSTART[1]).read_text(encoding="utf-8")
    writer = threading.Thread(target=lambda: pipe.write_text(text, encoding="utf-8"))
    writer.start()
    with pytest.raises(SystemExit) as exit_:
        main(["fit", "--config", str(pipe), "--model.sparsifier.k", "7", "--print_config"])
    writer.join()
    assert exit_.value.code == 0
    assert "k: 7" in capsys.readouterr().out

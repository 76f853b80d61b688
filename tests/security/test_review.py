"""What a review of the wall found, each attack as it was made: none of it works any more."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

import vsae_lightning as vl
from canary import watching
from refusals import Refusal
from vsae_lightning.autoencoders.storage import read_checkpoint
from vsae_lightning.cli import main
from vsae_lightning.data.synthetic import HeldOutRows, KnownDictionary, SyntheticDataModule
from vsae_lightning.data.tokenizer_limits import require_modest

RUN = "stranger_run"
Alter = Callable[..., Path]
TEXT = "data__init_args__text"


@pytest.mark.parametrize("command", [["evaluate", RUN, "--suite", "core"], ["analyze", RUN], ["test", RUN]])
def test_a_text_that_is_no_text_is_not_made(command: list[str], altered: Alter, desk: Path, refusal: Refusal) -> None:
    """LightningCLI is a class of the packages, and trains whatever its arguments say when it is made."""
    arguments = ["fit", "--model=lightning.pytorch.demos.boring_classes.BoringModel", "--trainer.max_steps=1"]
    arguments.append(f"--trainer.default_root_dir={desk / 'victim'}")
    cli = {"class_path": "lightning.pytorch.cli.LightningCLI", "init_args": {"args": arguments}}
    altered(**{TEXT: cli})
    with watching() as log:
        assert "data.text" in refusal(command)
    assert not (desk / "victim").exists()
    assert "stranger" not in log.imported


def hugging_face(**options: Any) -> dict[str, Any]:
    return {TEXT: {"class_path": "HuggingFaceText", "init_args": options}}


def linked(desk: Path) -> None:
    (desk / RUN / "ds").mkdir()
    (desk / RUN / "ds" / "data").symlink_to(desk / "home")


def circles(desk: Path) -> None:
    for name in "abcd":
        (desk / RUN / name).symlink_to(desk / RUN)


FILES: dict[str, tuple[Callable[[Path], None], dict[str, Any], str]] = {
    "the working folder": (
        lambda desk: None,
        hugging_face(path="text"),
        "without data_files it reads the working folder",
    ),
    "a linked folder in a dataset": (
        linked,
        hugging_face(path=f"{RUN}/ds", load_args={"data_files": "data/*.txt"}),
        "a link in it can lead to a file of yours",
    ),
    "another builder of datasets": (
        lambda desk: None,
        hugging_face(path="xml", load_args={"data_files": "home/*.txt"}),
        "it is neither owner/name nor a folder here",
    ),
    "links in circles": (
        circles,
        {TEXT: {"class_path": "TextFiles", "init_args": {"paths": f"{RUN}/**/*.txt"}}},
        "linked folders would be looked through again and again",
    ),
    "files that are no names": (
        lambda desk: None,
        hugging_face(path="json", load_args={"data_files": [["a"]]}),
        "data_files must be names, or names by split",
    ),
}


@pytest.mark.parametrize("command", [["evaluate", RUN, "--suite", "core"], ["test", RUN]], ids=["evaluate", "test"])
@pytest.mark.parametrize(("prepare", "text", "reason"), FILES.values(), ids=FILES)
def test_a_key_that_does_not_cover_the_files_opens_nothing(
    prepare: Callable[[Path], None],
    text: dict[str, Any],
    reason: str,
    command: list[str],
    altered: Alter,
    desk: Path,
    refusal: Refusal,
) -> None:
    (desk / "home").mkdir()
    (desk / "home" / "diary.txt").write_text("of the user\n" * 1000)
    prepare(desk)
    altered(**text)
    assert reason in refusal(command)


def test_an_override_does_not_carry_arguments_of_the_run(altered: Alter, desk: Path, refusal: Refusal) -> None:
    altered(**hugging_face(path="owner/name", load_args={"cache_dir": str(desk / "victim")}))
    message = refusal(["test", RUN, "--data.text.path=text"])
    assert "load_args.cache_dir" in message
    assert not (desk / "victim").exists()


@pytest.mark.parametrize("how", ["scalar W_dec", "no d_sae"])
def test_memory_is_asked_for_by_the_weights_that_there_are(how: str, stranger: Path, altered: Alter) -> None:
    path = stranger / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["d_sae"] = 3_000_000
    if how == "scalar W_dec":
        checkpoint["state_dict"]["autoencoder.W_dec"] = torch.zeros(())
    else:
        del checkpoint["hyper_parameters"]["d_sae"]
    torch.save(checkpoint, path)
    altered(model__init_args__d_sae=3_000_000)
    with pytest.raises(SystemExit) as exit_:
        main(["test", RUN])
    assert exit_.value.code == 2


def test_rows_that_are_many_are_counted_without_memory() -> None:
    data = SyntheticDataModule(d_in=8, num_features=16, mean_active=2.0)
    rows = HeldOutRows(data.truth, "many", 5 * 10**9, lanes=8, seed=0)
    sizes = [size for _, size in rows.chunks[:3]]
    assert (len(rows), sum(size for _, size in rows.chunks)) == (8 * -(-5 * 10**9 // 8192), 5 * 10**9)
    assert max(sizes) <= 1024
    assert isinstance(data.truth, KnownDictionary)


@pytest.mark.parametrize("what", ["a pipe", "a large file", "a link to a device"])
def test_compare_reads_no_result_that_never_ends(what: str, stranger: Path, refusal: Refusal) -> None:
    place = stranger / "evaluation" / "core"
    place.mkdir(parents=True)
    path = place / "x_eval_results.json"
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a link to a device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(2**33)
    with pytest.raises(SystemExit) as exit_:
        main(["compare", RUN])
    assert exit_.value.code == 2


def test_a_headline_reaches_the_terminal_escaped(stranger: Path, capfd: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", RUN, "--suite", "geometry"])
    path = next((stranger / "evaluation" / "geometry").iterdir())
    result = json.loads(path.read_text())
    headline = result["eval_result_unstructured"]["headline"]
    headline["\x1b]0;OWNED\x07\u202e"] = 1.0
    path.write_text(json.dumps(result))
    capfd.readouterr()
    main(["evaluate", RUN, "--suite", "geometry"])
    printed = capfd.readouterr().out
    assert "\x1b]0;OWNED" not in printed
    assert "\u202e" not in printed


@pytest.mark.parametrize("key", ["hparams", "module_arguments"])
def test_further_hyper_parameters_are_refused(key: str, stranger: Path) -> None:
    """Lightning merges them with those that are checked."""
    path = stranger / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint[key] = {"optimizer": "stranger.Optimizer"}
    torch.save(checkpoint, path)
    with pytest.raises(vl.InputError, match=f"a checkpoint with '{key}'"):
        vl.VSAE.load_from_checkpoint(path)


ODD: dict[str, dict[str, Any]] = {
    "a seed of many digits": {"model__init_args__seed": 10**39},
    "limits without end": {"trainer__limit_test_batches": 10**400},
    "a name of many letters": {"data__init_args__model_name": "a" * 300},
    "a text path of many letters": hugging_face(path="b" * 300),
    "no options": {"data": "abc"},
    "a model in a word": {"model": "abc"},
    "demonstrations of Lightning": {"data": {"class_path": "lightning.pytorch.demos.boring_classes.BoringDataModule"}},
}


@pytest.mark.parametrize("changes", ODD.values(), ids=ODD)
def test_odd_settings_are_one_line(changes: dict[str, Any], altered: Alter, refusal: Refusal) -> None:
    altered(**changes)
    refusal(["test", RUN])


@pytest.mark.parametrize("start", ["a\0", "/" * 5000, "loop"])
def test_a_start_that_is_no_path_is_passed_over(start: str, stranger: Path, desk: Path) -> None:
    (desk / RUN / "loop").symlink_to(desk / RUN / "loop")
    record = json.loads((stranger / "run.json").read_text())
    (stranger / "run.json").write_text(json.dumps({**record, "started_from": start}))
    main(["test", RUN])
    assert (stranger / "test.json").is_file()


def test_a_run_of_before_is_read(stranger: Path) -> None:
    """Its checkpoint has what this version's have, and its config names classes by their modules."""
    assert read_checkpoint(stranger / "checkpoints" / "last.ckpt")["global_step"] == 12
    config = stranger / "config.yaml"
    text = config.read_text().replace("vsae_lightning.TopK", "vsae_lightning.autoencoders.topk.TopK")
    config.write_text(text.replace("vsae_lightning.VSAE", "vsae_lightning.modules.vsae.VSAE"))
    main(["test", RUN])
    assert (stranger / "test.json").is_file()


def test_a_dataset_of_the_hub_reads_no_local_file(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its card may name any file; a real builder of a local file stands in for the one that the hub would give."""
    (desk / "diary.txt").write_text("of the user\n" * 10)
    local = datasets.load_dataset_builder("text", data_files=str(desk / "diary.txt"))
    asked: list[dict[str, Any]] = []

    def builder(path: str, name: str | None = None, data_dir: str | None = None, **options: Any) -> Any:
        asked.append(options)
        return local

    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    monkeypatch.setattr("vsae_lightning.data.text.require_available", lambda *arguments: None)
    text = vl.HuggingFaceText("owner/name", load_args={"verification_mode": "no_checks", "columns": ["text"]})
    with pytest.raises(vl.InputError, match=r"the dataset names the local file '.*diary\.txt'; it is not read"):
        list(text.documents())
    assert asked == [{"revision": None, "columns": ["text"]}]  # what only loading knows would make a builder fail


def test_a_tokenizer_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_input_chars_per_word of tokenizer\.json is 1000000000; 1000 is"):
        require_modest({"model": {"type": "WordPiece", "max_input_chars_per_word": 10**9}})
    require_modest({"model": {"type": "WordPiece", "max_input_chars_per_word": 100}})  # as BERT has it

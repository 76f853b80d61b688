"""Bad YAML: files that are none, that hide something, or whose settings are wrong."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from refusals import Refusal, Settings, changed

LAUGHS = "a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "only comments": (b"# trainer:\n#   max_steps: 4\n", "is empty"),
    "a list": (b"- fit\n- model\n", "is a list"),
    "a word": (b"quickstart\n", "holds only the text 'quickstart'"),
    "a number": (b"42\n", "holds only the text '42'"),
    "tabs": (b"trainer:\n\tmax_steps: 4\n", "is not YAML: line 2, column 1: found character '\\t'"),
    "unclosed bracket": (b"trainer: {max_steps: 4\n", "is not YAML: line 2, column 1: expected ',' or '}'"),
    "two colons": (b"trainer: max_steps: 4\n", "is not YAML: line 1, column 19: mapping values are not allowed here"),
    "two documents": (b"trainer: {}\n---\nmodel: {}\n", "is not YAML: line 2, column 1"),
    "key twice": (b"trainer: {max_steps: 4}\nmodel: SAE\ntrainer: {}\n", "has 'trainer' twice, in lines 1 and 3"),
    "inner key twice": (b"trainer:\n  max_steps: 4\n  max_steps: 5\n", "has 'max_steps' twice, in lines 2 and 3"),
    "unknown alias": (b"trainer: *nothing\n", "found undefined alias"),
    "alias of itself": (b"trainer: &a {b: *a}\n", "unfolds to too many values"),
    "billion laughs": (LAUGHS.encode(), "unfolds to too many values"),
    "deep nesting": (b"a: " + b"[" * 5000 + b"]" * 5000, "is not YAML"),
    "python tag": (
        b"seed_everything: !!python/object/apply:os.system ['touch ran']\n",
        "holds a value tagged",
    ),
    "python name": (b"model: !!python/name:os.system\n", "holds a value tagged"),
    "own tag": (b"model: !Secret x\n", "holds a value tagged"),
    "binary": (bytes(range(256)) * 4, "is not UTF-8 text"),
    "NUL bytes": (b"trainer: {}\n\0\0\0", "is not YAML"),
    "Latin-1": ("# gr\xfc\xdfe\ntrainer: {}\n".encode("latin-1"), "is not UTF-8 text (byte 4)"),
    "UTF-16": ("trainer: {}\n".encode("utf-16"), "is not UTF-8 text"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "is not UTF-8 text"),
    "date": (b"seed_everything: 2024-13-45\n", "seed_everything is '2024-13-45'; it must be one of: bool, int"),
    "key that is a list": (b"? [a, b]\n: c\n", "has a list or a mapping as a name"),
    "JSON cut short": (b'{"trainer": {"max_steps": 4', "is not YAML"),
    "too long": (b"#" + b"x" * 11_000_000, "has more than 10,000,000 bytes"),
    "no model and no data": (b"trainer: {max_steps: 4}\n", "--data, --model is missing"),
    "unknown section": (b"trianer: {max_steps: 4}\n", "there is no option --trianer.max_steps. Did you mean trainer"),
    "unknown option": (
        b"trainer: {max_stepps: 4}\n",
        "there is no option --trainer.max_stepps. Did you mean max_steps",
    ),
    "section that is a list": (b"trainer: [1, 2]\n", "trainer is [1, 2]; give `option: value` lines below it"),
    "section that is a word": (b"trainer: fast\n", "trainer is 'fast'; give `option: value` lines below it"),
    "section that is nothing": (b"model:\ndata:\n", "--data, --model is missing"),
}


@pytest.mark.parametrize(("content", "expected"), FILES.values(), ids=FILES)
def test_a_bad_file_is_refused(content: bytes, expected: str, desk: Path, refusal: Refusal) -> None:
    (desk / "bad.yaml").write_bytes(content)
    assert expected in refusal(["fit", "--config", "bad.yaml"])
    assert not (desk / "ran").exists()


def a_folder(path: Path) -> None:
    path.mkdir()


def a_loop(path: Path) -> None:
    path.symlink_to(path)


def a_pipe(path: Path) -> None:
    path.symlink_to("/dev/null")


def nothing(path: Path) -> None:
    pass


PLACES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a folder": (a_folder, "--config: 'bad.yaml' is a folder; give a file in it"),
    "not there": (nothing, "--config: 'bad.yaml' does not exist"),
    "a link to itself": (a_loop, "--config: 'bad.yaml' does not exist"),
    "a device": (a_pipe, "--config: 'bad.yaml' does not exist"),
}


@pytest.mark.parametrize(("make", "expected"), PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("spelling", ["two words", "one word"])
def test_what_is_no_file_is_refused(
    make: Callable[[Path], None], expected: str, spelling: str, desk: Path, refusal: Refusal
) -> None:
    make(desk / "bad.yaml")
    options = ["--config=bad.yaml"] if spelling == "one word" else ["--config", "bad.yaml"]
    assert expected in refusal(["fit", *options])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_refused(desk: Path, refusal: Refusal) -> None:
    (desk / "bad.yaml").write_text("trainer: {}\n")
    (desk / "bad.yaml").chmod(0)
    assert "'bad.yaml' cannot be read: Permission denied" in refusal(["fit", "--config", "bad.yaml"])


MODEL, DATA = "model__init_args__", "data__init_args__"
SETTINGS = {
    "model without a class": (
        {"model": {"init_args": {"d_sae": 8}}},
        "not a MembersModule; give class_path (one of SAE, VSAE, Ensemble)",
    ),
    "model class that is a number": ({"model__class_path": 7}, "model.class_path is 7, not a name"),
    "model class that is a list": ({"model__class_path": ["SAE"]}, "model.class_path is ['SAE'], not a name"),
    "data without options": (
        {"data": {"class_path": "ActivationDataModule"}},
        "data: ActivationDataModule needs model_name, hook_name",
    ),
    "options that are nothing": ({"data__init_args": None}, "data.init_args is None; give `option: value` lines"),
    "options that are a list": ({"model__init_args": [1]}, "model.init_args is [1]; give `option: value` lines"),
    "model a number": ({"model": 5}, "model is 5, not a MembersModule; give class_path (one of SAE"),
    "model is the data": (
        {"model__class_path": "ActivationDataModule"},
        "model: there is no class 'ActivationDataModule'. Known: SAE",
    ),
    "d_sae a text": ({f"{MODEL}d_sae": "big"}, "model.d_sae is 'big'; it must be of type int"),
    "d_sae a list": ({f"{MODEL}d_sae": [8]}, "model.d_sae is '[8]'; it must be of type int"),
    "d_sae nothing": ({f"{MODEL}d_sae": None}, "model: VSAE needs d_sae"),
    "d_sae a float": ({f"{MODEL}d_sae": 8.5}, "model.d_sae is '8.5'; it must be of type int"),
    "d_sae infinite": ({f"{MODEL}d_sae": float("inf")}, "model.d_sae is 'inf'; it must be of type int"),
    "kl_weight a yes": ({f"{MODEL}kl_weight": "yes"}, "model.kl_weight is 'True'; it must be of type float"),
    "sparsifier without k": ({f"{MODEL}sparsifier": {"class_path": "TopK"}}, "model.sparsifier: TopK needs k"),
    "sparsifier with more": ({f"{MODEL}sparsifier__init_args__kk": 3}, "TopK has no option 'kk'. Did you mean k"),
    "unknown model option": ({f"{MODEL}d_sea": 3}, "VSAE has no option 'd_sea'. Did you mean d_sae"),
    "unknown data option": ({f"{DATA}batchsize": 3}, "ActivationDataModule has no option 'batchsize'"),
    "option beside init_args": ({"model__d_sae": 96}, "model.d_sae belongs below model.init_args"),
    "text a number": ({f"{DATA}text": 5}, "data.text is 5, not a TextSource; give class_path (one of BundledText"),
    "text without paths": ({f"{DATA}text__init_args": {}}, "data.text: TextFiles needs paths"),
    "paths a number": (
        {f"{DATA}text__init_args__paths": 5},
        "data.text.paths is '5'; it must be one of: str, list[str]",
    ),
    "paths empty": ({f"{DATA}text__init_args__paths": []}, "text.init_args.paths is []; give a file"),
    "optimizer of os": ({f"{MODEL}optimizer": {"class_path": "os.system"}}, "model.optimizer: system needs command"),
    "max_steps a text": ({"trainer__max_steps": "many"}, "trainer.max_steps is 'many'"),
    "trainer option unknown": (
        {"trainer__max_stepz": 4},
        "there is no option --trainer.max_stepz. Did you mean max_steps",
    ),
    "logger unknown": ({"trainer__logger": {"class_path": "WandB"}}, "trainer.logger: there is no class 'WandB'"),
    "callbacks a word": ({"trainer__callbacks": "all"}, "trainer.callbacks is 'all'; it must be of type list"),
    "Ensemble without members": (
        {"model": {"class_path": "Ensemble", "init_args": {"members": {}}}},
        "members is empty",
    ),
    "members a list": (
        {"model": {"class_path": "Ensemble", "init_args": {"members": [1]}}},
        "model.members is '[1]'; it must be of type dict",
    ),
}


@pytest.mark.parametrize(("changes", "expected"), SETTINGS.values(), ids=SETTINGS)
def test_bad_settings_are_refused(
    changes: Settings, expected: str, settings: Settings, desk: Path, refusal: Refusal
) -> None:
    (desk / "bad.yaml").write_text(yaml.safe_dump(changed(settings, **changes)))
    assert expected in refusal(["fit", "--config", "bad.yaml"])


def test_the_later_of_two_files_wins_and_is_judged(base: list[str], desk: Path, refusal: Refusal) -> None:
    (desk / "more.yaml").write_text("data: {init_args: {batch_size: 63}}\n")
    assert "batch_size is 63; it must be a multiple of lanes, 8" in refusal(["fit", *base, "--config", "more.yaml"])


def test_files_of_two_models_are_refused(base: list[str], desk: Path, refusal: Refusal) -> None:
    (desk / "more.yaml").write_text("model: {class_path: SAE, init_args: {sigma: 0.5}}\n")
    assert "SAE has no option 'sigma'" in refusal(["fit", *base, "--config", "more.yaml"])


def test_the_second_of_two_files_is_looked_at_too(base: list[str], desk: Path, refusal: Refusal) -> None:
    (desk / "more.yaml").write_text("- 1\n")
    assert "'more.yaml' is a list" in refusal(["fit", *base, "--config", "more.yaml"])

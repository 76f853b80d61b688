"""Secrets stay out of every file of a run, and out of all that is made of it; so do folders and the user's name."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from refusals import changed
from run_folders import model, write_run
from vsae_lightning.cli import main
from vsae_lightning.data.text import HuggingFaceText
from vsae_lightning.interop.public import public_place, public_value
from vsae_lightning.redaction import (
    REMOVED,
    is_removed,
    is_secret_name,
    options_with_secrets,
    redacted,
    redacted_text,
    redacted_words,
    without_removed,
)

USER = "canaryuser77"
TOKEN, KEY = "hf_" + "Canary7" * 5, "CANARYKEY4711"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"
PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----"


class Leaky(NamedTuple):
    """A run with secrets in its config, in the home of a user with a telling name."""

    home: Path
    config: Path
    run: Path


@pytest.fixture(scope="module")
def leaky(tiny_model: Path, corpus: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leaky]:
    home = tmp_path_factory.mktemp("home") / USER
    project = home / "project"
    project.mkdir(parents=True)
    shutil.copytree(tiny_model, home / "models" / "tiny")
    documents = corpus.read_text(encoding="utf-8").split("\n\n")
    (home / "corpus.jsonl").write_text("\n".join(json.dumps({"text": one}) for one in documents))
    load_args = {"data_files": str(home / "corpus.jsonl"), "token": TOKEN, "storage_options": {"key": KEY}}
    options = {"path": "json", "load_args": load_args, "held_out_fraction": 0.2, "streaming": False}
    text = {"class_path": "HuggingFaceText", "init_args": options}
    settings = changed(
        yaml.safe_load(config.read_text()),
        data__init_args__model_name=str(home / "models" / "tiny"),
        data__init_args__text=text,
        data__init_args__cache_dir=str(home / "cache"),
        trainer__default_root_dir=str(project),
    )
    path = project / "leaky.yaml"
    path.write_text(yaml.safe_dump(settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for name, value in {"HOME": str(home), "LOGNAME": USER, "USER": USER}.items():
            patch.setenv(name, value)
        patch.setattr("sys.argv", ["/usr/bin/vsae", "fit", "--config", str(path), f"--data.token={TOKEN}"])
        with pytest.warns(UserWarning, match="load_args.token.*: give secrets by the environment") as told:
            main(["fit", "--config", str(path)])
        warned = [str(one.message) for one in told if "by the environment" in str(one.message)]
        assert len(warned) == 1
        assert "storage_options.key" in warned[0]
        assert "\n" not in warned[0]
        assert not {TOKEN, KEY} & set(warned[0].split())
        yield Leaky(home, path, project / "lightning_logs" / "version_0")


def holding(folder: Path, *canaries: str) -> list[str]:
    """The files in which one of the texts is; there is at least one file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if any(one.encode() in path.read_bytes() for one in canaries)]


def test_no_file_of_a_run_has_a_secret_of_its_config(leaky: Leaky) -> None:
    main(["test", str(leaky.run), f"--data.init_args.text.init_args.load_args.token={TOKEN}", "--trust_text"])
    assert holding(leaky.run, TOKEN, KEY) == []
    written = {path.name for path in leaky.run.iterdir()}
    assert {"config.yaml", "run.json", "fit.json", "test.json", "hparams.yaml"} <= written
    load_args = yaml.safe_load((leaky.run / "config.yaml").read_text())["data"]["init_args"]["text"]["init_args"]
    assert load_args["load_args"]["token"] == REMOVED
    assert load_args["load_args"]["data_files"] == str(leaky.home / "corpus.jsonl")  # which the run needs again
    command = json.loads((leaky.run / "run.json").read_text())["command"]
    assert command == ["vsae", "fit", "--config", str(leaky.config), f"--data.token={REMOVED}"]


def test_the_last_run_is_found_with_and_without_the_secret(
    leaky: Leaky, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = yaml.safe_load(leaky.config.read_text())
    without = tmp_path / "without.yaml"
    load_args = {"data_files": str(leaky.home / "corpus.jsonl")}
    without.write_text(
        yaml.safe_dump(changed(settings, data__init_args__text__init_args__load_args=load_args)), encoding="utf-8"
    )
    runs = sorted(leaky.run.parent.iterdir())
    for config in (leaky.config, without):
        main(["fit", "--config", str(config), "--ckpt_path", "last"])
        assert sorted(leaky.run.parent.iterdir()) == runs
        assert str(leaky.run.name) in capsys.readouterr().out


@pytest.mark.parametrize("form", ["saelens", "dictionary_learning", "safetensors"])
def test_an_export_has_no_secret_no_folder_and_no_user(leaky: Leaky, form: str, tmp_path: Path) -> None:
    main(["export", str(leaky.run), str(tmp_path / "export"), "--format", form])
    assert (tmp_path / "export" / "README.md").is_file()
    assert holding(tmp_path / "export", TOKEN, KEY, USER, str(leaky.home)) == []


def test_a_report_has_no_secret_no_folder_and_no_user(leaky: Leaky) -> None:
    main(["analyze", str(leaky.run.absolute()), "--tokens", "640", "--against", str(leaky.run.absolute())])
    assert holding(leaky.run / "report", TOKEN, KEY, USER, str(leaky.home)) == []
    page = (leaky.run / "report" / "data" / "overview.js").read_text()
    assert "vsae analyze lightning_logs/version_0" in page
    assert "vsae fit --config lightning_logs/version_0/config.yaml" in page
    assert "corpus.jsonl" in page


def test_an_old_run_with_secrets_is_published_without(leaky: Leaky, tmp_path: Path) -> None:
    """Its config.yaml was written before secrets were removed."""
    old = tmp_path / USER / "version_1"
    shutil.copytree(leaky.run, old, ignore=shutil.ignore_patterns("report*"))
    settings = yaml.safe_load((old / "config.yaml").read_text())
    load_args = {"data_files": str(leaky.home / "corpus.jsonl"), "token": TOKEN, "storage_options": {"key": KEY}}
    (old / "config.yaml").write_text(
        yaml.safe_dump(changed(settings, data__init_args__text__init_args__load_args=load_args))
    )
    options = ["--tokens", "640", "--maps.which", "none", "--trust_text"]
    main(["analyze", str(old), *options, "--output", str(tmp_path / "report")])
    main(["export", str(old), str(tmp_path / "export")])
    main(["compare", str(old), str(leaky.run), "--output", str(tmp_path / "table")])
    for made in ("report", "export", "table"):
        assert holding(tmp_path / made, TOKEN, KEY, USER) == [], made


def test_a_comparison_has_no_secret_no_folder_and_no_user(
    leaky: Leaky, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs that differ in a token, a folder, a file and a model; a third is of an empty test."""
    runs = []
    for number in (1, 2):
        load_args = {"token": f"{TOKEN}{number}", "data_files": str(leaky.home / f"{number}.jsonl")}
        data: dict[str, Any] = {
            "text": {"class_path": "HuggingFaceText", "init_args": {"path": "json", "load_args": load_args}}
        }
        data |= {"model_name": str(leaky.home / f"model_{number}")}
        note = f"file://{leaky.home}/x{number}"
        spec = model(k=8, note=note)
        runs.append(write_run(leaky.home / f"run_{number}", spec, test={"test/l0": 8.0}, data=data))
    main(["compare", *map(str, runs), "--output", str(tmp_path / "table")])
    assert holding(tmp_path / "table", TOKEN, KEY, USER, str(leaky.home)) == []
    assert "vsae evaluate run_1" in (tmp_path / "table" / "table.json").read_text()
    assert r"model\_2" in (tmp_path / "table" / "table.md").read_text()
    assert f"vsae evaluate {runs[0]}" in capsys.readouterr().out.replace("\n", "")  # the user's own terminal


NOT_SECRET = (
    "prepend_bos_token",
    "max_tokens",
    "validation_tokens",
    "tokens",
    "token_store",
    "dead_after_tokens",
    "token_ids",
    "key",
    "train/tokens",
    "eos_token",
    "tokenizer",
    "keys",
    "author",
    "pass_through",
)
SECRET = (
    "token",
    "hf_token",
    "HF_TOKEN",
    "api_key",
    "apiKey",
    "APIKey",
    "X-Api-Key",
    "aws_secret_access_key",
    "password",
    "passwd",
    "client_secret",
    "credentials",
    "Authorization",
    "private_key",
    "sas_token",
    "connection_string",
    "account_key",
    "accessKey",
    "session_token",
    "auth",
    "cookie",
)


def test_names_of_secrets_are_told_from_names_of_text() -> None:
    assert [name for name in SECRET if not is_secret_name(name)] == []
    assert [name for name in NOT_SECRET if is_secret_name(name)] == []
    assert is_secret_name("key", ["storage_options"])
    counted = {
        "validation_tokens": 240,
        "prepend_bos_token": True,
        "token": None,
        "members": {"secret": {"class_path": "SAE"}},
    }
    assert redacted(counted) == counted


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (TOKEN, REMOVED),
        ("AKIAIOSFODNN7EXAMPLE", REMOVED),
        ("sk-proj-abcdefghijklm0123456789", REMOVED),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", REMOVED),
        ("glpat-abcdefghij0123456789", REMOVED),
        ("xoxb-1234567890-abcdef", REMOVED),
        (JWT, REMOVED),
        (PEM, REMOVED),
        ("s3://me:pass@bucket/x", f"s3://{REMOVED}@bucket/x"),
        ("https://x/y?sv=1&sig=abc%3D&k=2", f"https://x/y?sv=1&sig={REMOVED}&k=2"),
        ("https://x/y?X-Amz-Signature=abc", f"https://x/y?X-Amz-Signature={REMOVED}"),
        ("AccountName=me;AccountKey=abc==;X=1", f"AccountName=me;AccountKey={REMOVED};X=1"),
        ("Authorization: Bearer abc.def", f"Authorization: {REMOVED}"),
        ('{"token": "abc", "split": "x"}', json.dumps({"token": REMOVED, "split": "x"})),
        ("{storage_options: {key: abc}, split: x}", f"{{storage_options: {{key: {REMOVED}}}, split: x}}"),
        ("EleutherAI/pythia-70m-deduped", "EleutherAI/pythia-70m-deduped"),
        ("sk-learn-is-a-long-name", "sk-learn-is-a-long-name"),
        ("hf://datasets/owner/name@main/x.jsonl", "hf://datasets/owner/name@main/x.jsonl"),
        ("https://host/a?page=3&keys=4", "https://host/a?page=3&keys=4"),
        ("blocks.1.hook_resid_post", "blocks.1.hook_resid_post"),
    ],
)
def test_secrets_are_known_by_their_form(text: str, left: str) -> None:
    assert redacted_text(text) == left
    assert redacted_text(left) == left


def test_words_of_a_command_line_lose_their_secrets() -> None:
    words = ["vsae", "fit", "--data.text.load_args.token", "x", "--trainer.max_steps", "3", "--a.password=5"]
    words += ["--data.text.load_args", '{"token": "abc"}', "--b.load_args={token: abc, split: x}"]
    words += ["--c.storage_options.key=1", "--trainer.logger.init_args.api_key", "k", "--model.d_sae", "8"]
    expected = [
        "vsae",
        "fit",
        "--data.text.load_args.token",
        REMOVED,
        "--trainer.max_steps",
        "3",
        f"--a.password={REMOVED}",
    ]
    expected += [
        "--data.text.load_args",
        json.dumps({"token": REMOVED}),
        f"--b.load_args={{token: {REMOVED}, split: x}}",
    ]
    expected += [
        f"--c.storage_options.key={REMOVED}",
        "--trainer.logger.init_args.api_key",
        REMOVED,
        "--model.d_sae",
        "8",
    ]
    assert redacted_words(words) == expected


def test_what_was_removed_is_known_and_left_out() -> None:
    settings = {"load_args": {"token": TOKEN, "split": "x", "url": "s3://a:b@c/d"}, "paths": ["x"]}
    assert options_with_secrets(settings) == ["load_args.token", "load_args.url"]
    clean = redacted(settings)
    assert options_with_secrets(clean) == []
    assert redacted(clean) == clean
    assert is_removed(clean["load_args"]["token"])
    assert is_removed(clean["load_args"]["url"])
    assert not is_removed("x")
    assert without_removed(clean) == {"load_args": {"split": "x"}, "paths": ["x"]}


def test_what_was_removed_is_never_sent() -> None:
    given = {"data_files": "x", "token": REMOVED}
    text, plain = HuggingFaceText("json", load_args=given), HuggingFaceText("json", load_args={"data_files": "x"})
    secret = HuggingFaceText("json", load_args=given | {"token": TOKEN})
    assert text.load_args == plain.load_args == {"data_files": "x"}
    assert secret.load_args["token"] == TOKEN
    assert secret.fingerprint() == plain.fingerprint()  # one token store, whoever reads the text


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (f"/home/{USER}/a b/c.txt", "c.txt"),
        (f"/home/{USER}", "~"),
        (f"~{USER}/x", "x"),
        (f"C:\\Users\\{USER}\\x.txt", "x.txt"),
        ("\\\\server\\share\\x.txt", "x.txt"),
        (f"file:///home/{USER}/x.txt", "x.txt"),
        (f"[Errno 2] no file: '/home/{USER}/a b/x.txt' or /opt/y", "[Errno 2] no file: 'x.txt' or y"),
        (f"--output=/home/{USER}/x", "--output=x"),
        (f"data/{USER}/x.txt", "x.txt"),
        ("https://host/a/b", "https://host/a/b"),
        ("mean of a / b, 1/2", "mean of a / b, 1/2"),
        ("</script><img src=x>", "</script><img src=x>"),
        ("\n\n", "\n\n"),
    ],
)
def test_paths_are_reduced_to_names_wherever_they_stand(value: str, left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", f"/home/{USER}")
    monkeypatch.setenv("LOGNAME", USER)
    assert public_value({"anything": [value]}) == {"anything": [left]}
    assert public_value(left) == left


def test_a_hub_name_of_the_user_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", f"/home/{USER}")
    assert public_value({"model_name": f"{USER}/tiny"}) == {"model_name": f"{USER}/tiny"}


def test_places_are_told_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = Path("version_0", "checkpoints", "last.ckpt")
    assert public_place(tmp_path / "logs" / "version_0") == "logs/version_0"
    assert public_place(Path("/elsewhere/version_0")) == "version_0"
    assert public_place("/elsewhere" / checkpoint) == str(checkpoint)


@pytest.mark.parametrize(
    "unit", ["a.", "eyJ", "sk-", "://a:", "?key=", "token: ", "a ='", '{"', "hf_", "/", "~a", "C:", "'/a"]
)
def test_long_texts_take_no_long_time(unit: str) -> None:
    started = time.perf_counter()
    public_value("x " + unit * 200_000)
    assert time.perf_counter() - started < 10


def test_a_config_without_secrets_is_written_as_before(run: Path, recwarn: Any) -> None:
    text = (run / "config.yaml").read_text()
    assert REMOVED not in text
    assert yaml.safe_load(text)["data"]["init_args"]["validation_tokens"] == 240

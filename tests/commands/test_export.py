"""vsae export by the command line: what it writes, what it refuses, and the upload to a hub."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import vsae_lightning as vl
from hub_server import hub_server
from refusals import listing
from vsae_lightning.cli import main
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.interop.model_card import model_card
from vsae_lightning.loading import origin_of
from vsae_lightning.origin import Origin

FORMATS = {
    "saelens": {"cfg.json", "sae_weights.safetensors"},
    "dictionary_learning": {"config.json", "ae.pt"},
    "safetensors": {"autoencoder.json", "autoencoder.safetensors"},
}


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str], folder: Path) -> str:
    """The one line that a bad command prints; the disk is as it was."""
    before = listing(folder)
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert listing(folder) == before
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0].removeprefix("vsae: error: ")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return tmp_path


@pytest.mark.parametrize("name", FORMATS)
def test_an_exported_run_is_a_subject_like_the_run(name: str, run: Path, desk: Path) -> None:
    main(["export", str(run), "deep/exported", "--format", name])
    folder = desk / "deep" / "exported"
    assert {path.name for path in folder.iterdir()} == FORMATS[name] | {"README.md"}
    assert all(path.stat().st_mode & 0o077 == 0o044 for path in folder.iterdir())
    x = 10 * torch.randn(50, 32)
    trained = open_subject(str(run))
    exported = open_subject("deep/exported", model_name=trained.provenance.model_name)  # its name alone is kept
    assert torch.allclose(exported.autoencoder(x), trained.autoencoder(x), rtol=1e-5, atol=1e-4)
    assert exported.provenance == replace(trained.provenance, cache_dir=None, text=None)
    assert exported.training["model"] == trained.training["model"]
    assert exported.training["model"]["init_args"]["kl_weight"] == 0.05
    assert str(run.parents[2].parent) not in json.dumps(exported.training)
    assert exported.folder.resolve() == folder
    assert exported.name == "exported"


def test_everything_that_is_known_is_kept(run: Path, desk: Path) -> None:
    main(["export", str(run), "exported"])
    content = json.loads((desk / "exported" / "cfg.json").read_text())["metadata"]["vsae_lightning"]
    assert content["version"] == vl.__version__
    assert content["autoencoder"]["class_name"] == "VariationalAutoencoder"
    assert content["autoencoder"]["init_args"]["sigma"] == "learned"
    assert "cache_dir" not in content["provenance"]
    fit = json.loads((run / "fit.json").read_text())
    assert content["metrics"]["val/explained_variance"] == fit["val/explained_variance"]


def test_through_all_formats_and_back(run: Path, desk: Path) -> None:
    main(["export", str(run), "a", "--format", "safetensors"])
    main(["export", "a", "b", "--format", "dictionary_learning"])
    main(["export", "b", "c", "--format", "saelens"])
    x = 10 * torch.randn(50, 32)
    assert torch.allclose(vl.load("c")(x), vl.load(run)(x), rtol=1e-5, atol=1e-4)
    assert origin_of(Path("c")) == origin_of(Path("a"))


def test_the_card_says_what_it_is_and_how_to_load_it(run: Path, desk: Path) -> None:
    main(["export", str(run), "exported", "--model_name", "EleutherAI/pythia-70m"])
    card = (desk / "exported" / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "saelens",
        "tags": ["sparse-autoencoder", "mechanistic-interpretability", "saelens", "vsae_lightning"],
        "base_model": "EleutherAI/pythia-70m",
    }
    assert "# TopK variational sparse autoencoder of EleutherAI/pythia-70m, blocks.1.hook_resid_post" in text
    assert "| k | 6 |" in text
    assert "| tokens trained | 768 |\n| batch size | 64 |\n| learning rate | 0.003 (Adam) |" in text
    assert "| val/explained_variance | " in text
    for line in ('vl.load("FOLDER")', 'SAE.load_from_disk("FOLDER")', 'load_dictionary("OTHER", device="cpu")'):
        assert line in text


def test_the_card_of_a_member_has_its_own_learning_rate() -> None:
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.0005}}
    members = {"a": {"init_args": {"optimizer": optimizer}}, "b": {"init_args": {}}}
    training = {
        "trainer": {"max_steps": 100, "accumulate_grad_batches": 2},
        "data": {"init_args": {"batch_size": 512}},
        "model": {"init_args": {"members": members}},
    }
    autoencoder, origin = vl.SparseAutoencoder(4, 64, vl.TopK(2)), Origin({}, training, {}, {})
    for member, rate in (("a", "0.0005 (AdamW)"), ("b", "0.0032 (Adam, the default)")):  # 2e-4 * sqrt(2^14 / 2^6)
        card = model_card(autoencoder, origin, "safetensors", member=member)
        assert "| tokens trained | 102,400 |\n| batch size | 512 |" in card
        assert f"| learning rate | {rate} |" in card
    assert "tokens trained" not in model_card(autoencoder, Origin({}, {}, {}, {}), "safetensors")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["RUN", "new", "--format", "sae"], "format is 'sae'; it must be one of saelens, dictionary_learning, safeten"),
        (["RUN", "new", "--member", "a"], "member is 'a', but"),
        (["RUN", "full"], "DIR: 'full' holds files, and is no export; give another folder."),
        (["RUN", "full", "--force"], "DIR: 'full' holds files, and is no export; give another folder."),
        (["RUN", "file"], "DIR: 'file' is a file; give a folder."),
        (["nowhere", "new"], "nowhere: no such file or folder; give a run folder"),
        (["RUN", "new", "--push_to_hub", "a b"], "push_to_hub: 'a b' is no name on the hub; give owner/name."),
        (["RUN", "new", "--push_to_hub", "name"], "push_to_hub: 'name' is no name on the hub; give owner/name."),
        (["RUN", "new", "--push_to_hub", "a/b"], "push_to_hub: there is no token for the hub; set HF_TOKEN"),
        (["dense", "new"], "format: Dense cannot be expressed by other libraries: its latents may be negative"),
        (["RUN"], "DIRECTORY is missing: vsae export RUN DIRECTORY."),
    ],
)
def test_refusals(
    arguments: list[str],
    expected: str,
    run: Path,
    desk: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    (desk / "full").mkdir()
    (desk / "full" / "config.json").write_text("{}")
    (desk / "file").write_text("")
    vl.save(vl.SparseAutoencoder(4, 8, vl.Dense()), desk / "dense")
    words = [str(run) if word == "RUN" else word for word in arguments]
    assert complaint(["export", *words], capsys, desk).startswith(expected.replace("RUN", str(run), 0))


def test_an_export_is_replaced_when_asked_for(run: Path, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["export", str(run), "exported", "--format", "dictionary_learning"])
    (desk / "exported" / "evaluation").mkdir()
    capsys.readouterr()
    said = complaint(["export", str(run), "exported"], capsys, desk)
    assert said == "DIR: 'exported' holds an export; give another folder, or --force to replace it."
    main(["export", str(run), "exported", "--force"])
    expected = FORMATS["saelens"] | {"README.md", "evaluation"}
    assert {path.name for path in (desk / "exported").iterdir()} == expected


def test_rows_that_saebench_will_refuse_are_told_of(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, factor in (("equal", 2.0), ("different", torch.linspace(0.5, 2, 64)[:, None])):
        autoencoder = vl.SparseAutoencoder(32, 64, vl.TopK(4))
        autoencoder.W_dec.data.mul_(factor)
        vl.save(autoencoder, name)
        main(["export", name, f"{name}-exported", "--format", "dictionary_learning"])
        assert ("its decoder rows differ in norm" in capsys.readouterr().out) == (name == "different")


def test_a_foreign_export_says_what_is_missing(desk: Path, tiny_model: Path) -> None:
    vl.save(vl.SparseAutoencoder(32, 64, vl.TopK(4)), "bare")
    with pytest.raises(
        vl.InputError, match=r"RUN: 'bare' does not say which model_name it is for; give --model_name\."
    ):
        open_subject("bare")
    with pytest.raises(vl.InputError, match=r"does not say which hook_name it is for; give --hook_name\."):
        open_subject("bare", model_name=str(tiny_model))
    subject = open_subject("bare", model_name=str(tiny_model), hook_name="blocks.0.hook_resid_post")
    assert subject.provenance.context_length == 128


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("model_name", 5, "model_name is 5; it must be of type str."),
        ("context_length", "128", "context_length is '128'; it must be of type int."),
        ("context_length", 0, "context_length is 0; it must be at least 1."),
        ("dtype", "int8", "dtype is 'int8'; it must be one of float32, bfloat16, float16."),
        ("text", [], "text is []; it must be of type dict."),
    ],
)
def test_metadata_of_a_stranger_are_looked_at(option: str, value: object, expected: str, desk: Path) -> None:
    provenance = {"model_name": "bundled", "hook_name": "blocks.0.hook_resid_post", option: value}
    vl.save(vl.SparseAutoencoder(32, 64, vl.TopK(4)), "bare", {"provenance": provenance})
    with pytest.raises(vl.InputError) as error:
        open_subject("bare")
    assert str(error.value) == expected


TEXT_OF_HUB = {"class_path": "vsae_lightning.HuggingFaceText", "init_args": {"path": "owner/name", "split": "train"}}


@pytest.mark.parametrize(
    "text",
    [
        {"class_path": "vsae_lightning.TextFiles", "init_args": {"paths": "SECRET"}},
        {"class_path": "HuggingFaceText", "init_args": {"path": "text", "load_args": {"data_files": "SECRET"}}},
        {"class_path": "HuggingFaceText", "init_args": {"path": "text"}},
        {"class_path": "HuggingFaceText", "init_args": {"path": "own/folder"}},
        {"class_path": "HuggingFaceText", "init_args": {"path": "../a"}},
        {"class_path": "HuggingFaceText", "init_args": {"path": "owner/name", "load_args": {"cache_dir": "SECRET"}}},
        {"class_path": "HuggingFaceText", "init_args": ["owner/name"]},
    ],
)
def test_a_stranger_chooses_no_local_file(
    text: dict[str, object], desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk / "SECRET").write_text("a secret")
    (desk / "own" / "folder").mkdir(parents=True)
    known = {"model_name": "bundled", "hook_name": "blocks.0.hook_resid_post", "cache_dir": "SECRET", "text": text}
    vl.save(vl.SparseAutoencoder(32, 64, vl.TopK(4)), "strange", {"provenance": known})
    subject = open_subject("strange")
    assert (subject.provenance.text, subject.provenance.cache_dir) == (None, None)
    expected = (
        "note: strange: its text is not of the hub, and an export chooses no local files; the bundled one is read\n"
    )
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("text", [None, {"class_path": "vsae_lightning.BundledText"}, TEXT_OF_HUB])
def test_a_public_text_of_an_export_is_read(
    text: dict[str, object] | None, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {"model_name": "bundled", "hook_name": "blocks.0.hook_resid_post", "cache_dir": "there", "text": text}
    vl.save(vl.SparseAutoencoder(32, 64, vl.TopK(4)), "strange", {"provenance": known})
    assert open_subject("strange").provenance.text == text
    assert open_subject("strange").provenance.cache_dir is None
    assert open_subject("strange", cache_dir="here").provenance.cache_dir == "here"
    assert capsys.readouterr().out == ""


def upload(run: Path, desk: Path, address: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: huggingface_hub reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": address, "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(desk / "hub")}
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "vsae_lightning", "export", str(run), "exported", "--push_to_hub", "owner/name"]
    environment = {**os.environ, **settings, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=desk, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_a_hub_receives_the_folder(run: Path, desk: Path) -> None:
    with hub_server() as hub:
        done = upload(run, desk, hub.address)
    assert done.returncode == 0, done.stderr
    assert hub.repositories[0]["name"] == "name"
    assert hub.repositories[0]["organization"] == "owner"
    assert hub.tokens == {"Bearer hf_test"}
    assert hub.commits == ["Export of vsae_lightning"]
    written = {path.name: path.read_bytes() for path in (desk / "exported").iterdir()}
    assert hub.files == written
    assert not any(str(run.parents[2]).encode() in content for content in hub.files.values())  # pytest's folder
    assert len(hub.large) == 1  # the weights, by git LFS
    assert "`hf download owner/name --local-dir FOLDER`" in written["README.md"].decode()
    assert f"uploaded: {hub.address}/owner/name" in done.stdout


def test_a_hub_out_of_reach_is_one_line(run: Path, desk: Path) -> None:
    done = upload(run, desk, "http://127.0.0.1:9")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("vsae: error: push_to_hub: 'owner/name' was not uploaded (")
    assert lines[0].endswith("; the export is whole in exported.")
    assert vl.load(desk / "exported").d_in == 32

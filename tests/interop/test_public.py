"""What an export says of its run names no folder of the machine that it was trained on."""

from pathlib import Path
from typing import Any

import pytest

from vsae_lightning.interop.public import public
from vsae_lightning.origin import Origin


def data(text: dict[str, Any], model_name: str = "/home/me/models/tiny") -> dict[str, Any]:
    return {"model_name": model_name, "cache_dir": "/scratch/me", "text": text, "context_length": 16}


def test_folders_files_and_secrets_are_left_out() -> None:
    text = {"class_path": "TextFiles", "init_args": {"paths": ["/home/me/a/*.txt", "b/c.jsonl"], "separator": "\n\n"}}
    trainer = {
        "max_steps": 5,
        "logger": {"init_args": {"save_dir": "/home/me/logs"}},
        "default_root_dir": "/home/me/runs",
        "callbacks": [{"class_path": "Keep", "init_args": {"folder": "~/kept"}}],
    }
    training = {
        "seed_everything": 0,
        "trainer": trainer,
        "data": {"class_path": "ActivationDataModule", "init_args": data(text)},
        "ckpt_path": "/home/me/runs/last.ckpt",
    }
    found = public(Origin(data(text), training, {"test/l0": 4.0}, {"class_name": "SparseAutoencoder"}))
    kept_text = {"class_path": "TextFiles", "init_args": {"paths": ["*.txt", "c.jsonl"], "separator": "\n\n"}}
    kept = {"model_name": "tiny", "text": kept_text, "context_length": 16}
    assert found == Origin(
        kept,
        {
            "seed_everything": 0,
            "trainer": {"max_steps": 5, "callbacks": [{"class_path": "Keep", "init_args": {"folder": "kept"}}]},
            "data": {"class_path": "ActivationDataModule", "init_args": kept},
        },
        {"test/l0": 4.0},
        {"class_name": "SparseAutoencoder"},
    )
    assert public(found) == found


def test_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    secret = {"token": "hf_secret", "storage_options": {"key": "secret"}}
    files = {"data_files": {"train": "/home/me/a.json", "test": ["b/c.json"]}}
    text = {"class_path": "HuggingFaceText", "init_args": {"path": "json", "load_args": {**files, **secret}}}
    (found,) = [public(Origin(data(text), {}, {}, {})).provenance["text"]["init_args"]]
    assert found == {"path": "json", "load_args": {"data_files": {"train": "a.json", "test": ["c.json"]}}}


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("EleutherAI/pythia-70m", "EleutherAI/pythia-70m"),
        ("bundled", "bundled"),
        ("mine/tiny", "tiny"),
        ("mine/tiny/", "tiny"),
        ("../models/tiny", "tiny"),
        ("/models/tiny", "tiny"),
    ],
)
def test_a_model_of_the_hub_keeps_its_owner(
    name: str, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "tiny").mkdir(parents=True)
    assert public(Origin({"model_name": name}, {}, {}, {})).provenance == {"model_name": kept}

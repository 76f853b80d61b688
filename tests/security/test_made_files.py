"""Files that hypothesis makes: configs and checkpoints of every shape are taken or refused in words, never run."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vsae_lightning as vl
from canary import watching
from code_in_files import MARKER, write_module
from vsae_lightning.errors import InputError
from vsae_lightning.run_settings import as_options, settings_of_run
from vsae_lightning.runs import NamedRun

NAMES = (
    st.sampled_from(["stranger.Model", "stranger", "settings.yaml", "settings", "os.system"])
    | st.sampled_from(["SAE", "vsae_lightning.TopK", "torch.optim.Adam", "HuggingFaceText", "ActivationDataModule"])
    | st.sampled_from(["lightning.pytorch.cli.os.system", "builtins.eval", "x", "", "a: b"])
)
OPTIONS = (
    st.sampled_from(["class_path", "init_args", "dict_kwargs", "sparsifier", "optimizer", "text"])
    | st.sampled_from(["load_args", "k", "d_sae", "members", "cache_dir", "paths"])
    | st.sampled_from(["callbacks", "__path__", "config", "path", "model_name"])
)
LEAVES = NAMES | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=4)
VALUES: Any = st.recursive(
    LEAVES | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(OPTIONS | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
SPECS = st.fixed_dictionaries({"class_path": NAMES, "init_args": st.dictionaries(OPTIONS, VALUES, max_size=4)})
CONFIGS = st.dictionaries(st.sampled_from(["model", "data", "trainer", "latents", "config", "x"]), SPECS | VALUES)
MANY = settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_module(tmp_path)
    (tmp_path / "settings").write_text("class_path: stranger.Model\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str | int) and is_plain(entry) for key, entry in value.items())
    return all(map(is_plain, value)) if isinstance(value, list) else type(value) in (str, int, float, bool, type(None))


@MANY
@given(content=CONFIGS)
def test_a_config_is_plain_values_or_refused(folder: Path, content: Any) -> None:
    run = NamedRun("run", folder, folder / "none.ckpt")
    run.config.write_text(yaml.dump(content), encoding="utf-8")
    with watching() as log:
        try:
            taken = settings_of_run(run)
        except InputError:
            taken = {}
    assert is_plain(taken)
    assert taken.keys() <= {"model", "data", "trainer", "loss_recovered", "seed_everything"}
    assert not log.started
    assert "stranger" not in log.imported
    assert not (folder / MARKER).exists()


@MANY
@given(text=st.text())
def test_the_parser_reads_what_was_checked(folder: Path, text: str) -> None:
    """Any text comes out of the parser's YAML as it went in."""
    model = {"class_path": "vsae_lightning.SAE", "init_args": {"d_sae": 8, "decoder": text}}
    data = {"class_path": "vsae_lightning.ActivationDataModule", "init_args": {"model_name": text, "hook_name": text}}
    run = NamedRun("run", folder, folder / "none.ckpt")
    run.config.write_text(yaml.safe_dump({"model": model, "data": data}), encoding="utf-8")
    try:
        config = as_options(settings_of_run(run)).removeprefix("--config=")
    except InputError:
        return  # such as half a surrogate pair, which no file of UTF-8 has
    assert yaml.safe_load(config)["data"]["init_args"] == {"model_name": text, "hook_name": text}


TENSORS = st.sampled_from([torch.zeros(6, 4), torch.zeros(6), torch.zeros(4, 6), torch.zeros(4), torch.zeros(())])
KEYS = (
    st.sampled_from(["state_dict", "hyper_parameters", "autoencoder", "members", "class_name", "init_args"])
    | st.sampled_from(["d_in", "d_sae", "sparsifier", "autoencoder.W_dec", "autoencoder.W_enc", "input_mean"])
    | st.sampled_from(["input_scale", "_class_path", "k", "epoch", "loops"])
)
TREES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | TENSORS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.integers(), inner, max_size=6),
    max_leaves=15,
)


@MANY
@given(content=st.dictionaries(KEYS, TREES, max_size=8))
def test_a_checkpoint_of_any_shape_is_refused(folder: Path, content: Any) -> None:
    torch.save(content, folder / "made.ckpt")
    with pytest.raises(InputError):
        vl.load(folder / "made.ckpt")

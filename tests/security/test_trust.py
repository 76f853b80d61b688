"""The wall itself: what jsonargparse imports within, and which classes a file may name."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch import LightningDataModule

import vsae_lightning as vl
from code_in_files import MARKER, write_module
from vsae_lightning.trust import resolve, trusted_packages, walled
from vsae_lightning.trusted_specs import require_trusted_module, require_trusted_spec

TOPK = {"class_path": "vsae_lightning.autoencoders.topk.TopK", "init_args": {"k": 4}}


def of_any(value: Any) -> Any:
    """What jsonargparse makes of a value for an option of type Any."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--anything", type=Any)
    return parser.instantiate(parser.parse_object({"anything": value})).anything


def optimizer(name: str) -> Any:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(torch.optim.Optimizer, "optimizer", skip={"params"})
    return parser.parse_object({"optimizer": {"class_path": name, "init_args": {"lr": 0.1}}})


def test_nothing_is_instantiated_in_any(tmp_path: Path) -> None:
    spec = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(tmp_path / MARKER)]}}
    with walled():
        for value in (spec, json.dumps(spec), [spec], {"features": spec}):
            assert not any(type(part).__name__ == "Popen" for part in (of_any(value), *list(of_any(value))))
    assert not (tmp_path / MARKER).exists()


@pytest.mark.parametrize("name", ["stranger.Optimizer", "os.system", "jsonargparse.set_parsing_settings"])
def test_the_parser_imports_nothing_else(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with walled(), pytest.raises(ArgumentError, match="not allowed"):
        optimizer(name)
    assert not (tmp_path / MARKER).exists()


def test_the_parser_imports_what_is_trusted_and_forgets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(tmp_path, "own_of_the_user")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with walled(("own_of_the_user",)):
        assert optimizer("own_of_the_user.Optimizer").optimizer.init_args.lr == 0.1
    with walled(), pytest.raises(ArgumentError, match="not allowed"):
        optimizer("own_of_the_user.Optimizer")
    assert optimizer("own_of_the_user.Optimizer").optimizer.init_args.lr == 0.1  # a session goes on as before


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("TopK", vl.TopK),
        ("vsae_lightning.TopK", vl.TopK),
        ("vsae_lightning.autoencoders.topk.TopK", vl.TopK),
        ("torch.optim.Adam", torch.optim.Adam),
        ("torch.optim.lr_scheduler.LinearLR", torch.optim.lr_scheduler.LinearLR),
    ],
)
def test_classes_of_the_packages_are_found(name: str, found: type) -> None:
    assert resolve(name, "option") is found


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "vsae_lightning.trust.import_module",
        "vsae_lightning.files.shutil.rmtree",
        "vsae_lightning.cli.main",
        "torch.optim.adam.torch.save",
        "torch.load",
        "torch.optimizer.Adam",
        "lightning.pytorch.cli.os.system",
        "lightning.Trainer",
        "vsae_lightning_evil.SAE",
        "vsae_lightning..files",
        "../settings.yaml",
        "",
        ".",
    ],
)
def test_what_is_no_class_of_the_packages_is_refused(name: str) -> None:
    with pytest.raises(vl.InputError, match="option: "):
        resolve(name, "option")


@pytest.mark.parametrize("name", ["jsonargparse", "jsonargparse.typing", "../mine", "mine.*", "*", "a b"])
def test_a_package_that_cannot_be_trusted_is_refused(name: str) -> None:
    with pytest.raises(vl.InputError, match="trust is "):
        trusted_packages(name)


def test_packages_are_separated_by_commas() -> None:
    assert trusted_packages("mine, theirs.models ,") == ("mine", "theirs.models")
    assert trusted_packages(["mine"]) == ("mine",)
    assert trusted_packages("") == ()


@pytest.mark.parametrize("config", sorted(Path(__file__).parents[2].glob("configs/**/*.yaml")), ids=lambda p: p.stem)
def test_every_config_of_this_repository_is_trusted(config: Path) -> None:
    from lightning.pytorch import LightningModule

    from vsae_lightning.config_files import read_config

    content = read_config(config)
    for section, base in (("model", LightningModule), ("data", LightningDataModule)):
        if section in content:
            with_full_names = json.loads(json.dumps(content[section]).replace('"Adam"', '"torch.optim.Adam"'))
            assert issubclass(require_trusted_spec(with_full_names, section, base), base)


def test_a_module_may_name_its_own_class(tmp_path: Path) -> None:
    class Mine(vl.SAE):
        pass

    name = f"{Mine.__module__}.{Mine.__qualname__}"
    require_trusted_module(tmp_path, {"_class_path": name, "sparsifier": TOPK}, Mine)
    with pytest.raises(vl.InputError, match="is not a class of"):
        require_trusted_module(tmp_path, {"_class_path": name, "sparsifier": TOPK}, vl.SAE)


def test_a_sparsifier_of_a_user_is_loaded_where_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_sparsifiers.py").write_text("import vsae_lightning as vl\n\nclass HalfTopK(vl.TopK):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    own = importlib.import_module("own_sparsifiers").HalfTopK(k=2)
    made = vl.SparseAutoencoder(6, 8, own)
    vl.save(made, tmp_path / "exported")
    with pytest.raises(vl.InputError, match="give --trust own_sparsifiers"):
        vl.load(tmp_path / "exported")
    loaded = vl.load(tmp_path / "exported", trust=["own_sparsifiers"])
    assert type(loaded.sparsifier) is type(own)
    x = torch.randn(3, 6)
    assert torch.equal(loaded.encode(x), made.eval().encode(x))


def test_a_file_names_no_class_of_another_kind(tmp_path: Path) -> None:
    vl.save(vl.SparseAutoencoder(6, 8, vl.TopK(k=2)), tmp_path)
    described = json.loads((tmp_path / "autoencoder.json").read_text())
    described["init_args"]["sparsifier"]["class_path"] = "torch.optim.Adam"
    (tmp_path / "autoencoder.json").write_text(json.dumps(described))
    with pytest.raises(vl.InputError, match=r"'torch\.optim\.Adam' is not a Sparsifier"):
        vl.load(tmp_path)

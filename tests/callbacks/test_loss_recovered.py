"""`LossRecovered` in whole runs: what it logs is what the core evaluation of the trained autoencoder finds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

import vsae_lightning as vl
from vsae_lightning.autoencoders.storage import read_checkpoint
from vsae_lightning.callbacks import LossRecovered
from vsae_lightning.cli import main
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.evaluation.core import Core
from vsae_lightning.evaluation.evaluation import untracked

METRICS = ("clean", "zero_ablated", "mean_ablated", "spliced", "score", "score_mean_ablation")


def metrics_of(path: Path, stage: str) -> dict[str, float]:
    content = json.loads(path.read_text())
    return {name: value for name, value in content.items() if name.startswith(f"{stage}/") and "/ce_" in name}


@pytest.fixture(scope="module")
def ensemble(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a TopK SAE and a vSAE side by side."""
    content = yaml.safe_load(config.read_text())
    common = {"d_sae": 64, "sparsifier": {"class_path": "TopK", "init_args": {"k": 4}}}
    members: dict[str, Any] = {
        "topk": {"class_path": "SAE", "init_args": common},
        "vsae": {"class_path": "VSAE", "init_args": {**common, "sigma": 0.1, "kl_weight": 0.01, "seed": 1}},
    }
    content["model"] = {"class_path": "Ensemble", "init_args": {"members": members}}
    folder = tmp_path_factory.mktemp("ensemble")
    (folder / "run.yaml").write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["fit", "--config", "run.yaml"])
    return folder / "lightning_logs" / "version_0"


def test_every_member_has_its_values(ensemble: Path) -> None:
    validated = metrics_of(ensemble / "fit.json", "val")
    assert validated.keys() == {f"val/{name}/ce_loss_{metric}" for name in ("topk", "vsae") for metric in METRICS}
    main(["test", str(ensemble)])
    tested = metrics_of(ensemble / "test.json", "test")
    for name in ("topk", "vsae"):
        found = Core(16, 1000, 1000).scores(open_subject(str(ensemble), name), untracked).unstructured["by_definition"]
        for metric in METRICS:
            value = tested[f"test/{name}/ce_loss_{metric}"]
            assert value == pytest.approx(found[f"ce_loss_{metric}"], rel=1e-4), metric
    assert tested["test/topk/ce_loss_clean"] == tested["test/vsae/ce_loss_clean"]
    assert tested["test/topk/ce_loss_spliced"] != tested["test/vsae/ce_loss_spliced"]


def test_training_is_bit_equal_with_it_and_without(
    run: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["fit", "--config", str(config), "--loss_recovered.max_tokens", "0"])
    without = tmp_path / "lightning_logs" / "version_0"
    assert metrics_of(run / "fit.json", "val")
    assert not metrics_of(without / "fit.json", "val")
    one, other = (read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (run, without))
    assert one["state_dict"].keys() == other["state_dict"].keys()
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name]), name


def test_fewer_tokens_are_the_first_ones(run: Path) -> None:
    """Of 200 tokens 12 whole sequences of 16; of 16 tokens as many sequences as there are lanes, 8."""
    subject = open_subject(str(run))
    for max_tokens, sequences in ((200, 12), (16, 8)):
        main(["test", str(run), "--loss_recovered.test_max_tokens", str(max_tokens)])
        tested = metrics_of(run / "test.json", "test")
        found = Core(sequences, 1, 1000).scores(subject, untracked).unstructured["by_definition"]
        for metric in METRICS:
            assert tested[f"test/ce_loss_{metric}"] == pytest.approx(found[f"ce_loss_{metric}"], rel=1e-4), metric


def test_the_language_model_keeps_its_precision(run: Path) -> None:
    main(["test", str(run)])
    full = metrics_of(run / "test.json", "test")
    main(["test", str(run), "--trainer.precision", "bf16-mixed"])
    mixed = metrics_of(run / "test.json", "test")
    for metric in ("clean", "zero_ablated"):
        assert mixed[f"test/ce_loss_{metric}"] == full[f"test/ce_loss_{metric}"]
    assert mixed["test/ce_loss_spliced"] != full["test/ce_loss_spliced"]
    assert mixed["test/ce_loss_spliced"] == pytest.approx(full["test/ce_loss_spliced"], rel=1e-2)


def test_without_a_language_model_nothing_is_done(tmp_path: Path) -> None:
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[LossRecovered()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
    )
    data = vl.SyntheticDataModule(8, 16, 2.0, batch_size=32, validation_rows=64, seed=0)
    (values,) = trainer.validate(vl.SAE(8, 16, vl.TopK(2)), datamodule=data, verbose=False)
    assert "val/explained_variance" in values
    assert not any("ce_loss" in name for name in values)


@pytest.mark.parametrize(
    ("build", "option"),
    [(lambda: LossRecovered(-1), "max_tokens"), (lambda: LossRecovered(0, -1), "test_max_tokens")],
)
def test_negative_numbers_are_refused(build: Callable[[], LossRecovered], option: str) -> None:
    with pytest.raises(vl.InputError, match=rf"loss_recovered\.{option} is -1; it must be at least 0"):
        build()

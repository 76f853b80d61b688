"""Activations whose norm was too large for training are counted in the same way by every command."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from massive_model import massive_model, text_with_sinks
from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.observation import observe
from vsae_lightning.cli import main
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.evaluation.core import Core
from vsae_lightning.evaluation.evaluation import untracked
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.loading import load, origin_of

KEYS = ("explained_variance", "explained_variance_all_rows", "left_out_fraction")


@pytest.fixture(scope="module")
def massive_config(config: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("massive")
    content = yaml.safe_load(config.read_text())
    content["data"]["init_args"] |= {
        "model_name": str(massive_model(folder / "model", tiny_model)),
        "cache_dir": str(folder / "cache"),
        "validation_tokens": 100_000,  # all that is held out, as a test reads
    }
    content["data"]["init_args"]["text"]["init_args"]["paths"] = str(text_with_sinks(folder / "text.txt"))
    content["model"] = {
        "class_path": "SAE",
        "init_args": {"d_sae": 96, "sparsifier": {"class_path": "TopK", "init_args": {"k": 6}}},
    }
    content["trainer"] |= {"max_steps": 60, "val_check_interval": 60}
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def fitted(config: Path, folder: Path, *options: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["fit", "--config", str(config), *options])
    return folder / "lightning_logs" / "version_0"


@pytest.fixture(scope="module")
def massive_run(massive_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the default `max_norm_ratio`, validated and tested."""
    run = fitted(massive_config, tmp_path_factory.mktemp("left_out"))
    for command in ("validate", "test"):
        main([command, str(run)])
    return run


@pytest.fixture(scope="module")
def subject(massive_run: Path) -> Subject:
    return open_subject(str(massive_run))


def explained(x: Tensor, x_hat: Tensor) -> float:
    return float(1 - (x - x_hat).square().sum() / (x - x.mean(0)).square().sum())


@pytest.fixture(scope="module")
def expected(subject: Subject) -> dict[str, float]:
    """Computed at once, of all held-out rows but the first of each sequence."""
    tokens = torch.from_numpy(subject.tokens.held_out.astype("int64"))
    x = subject.model.activations(tokens)[:, 1:].flatten(0, 1)
    norms = x.norm(dim=-1)
    kept = norms <= 10 * norms.median()
    assert 0 < int((~kept).sum()) < 40
    x_hat = load(subject.folder)(x)
    values = explained(x[kept].double(), x_hat[kept].double()), explained(x.double(), x_hat.double())
    return dict(zip(KEYS, (*values, float((~kept).double().mean())), strict=True))


def of_stage(path: Path, stage: str) -> dict[str, float]:
    logged = json.loads(path.read_text())
    return {key: logged[f"{stage}/{key}"] for key in KEYS}


def test_the_limit_is_fixed_on_the_first_block_of_training(massive_run: Path, subject: Subject) -> None:
    checkpoint = torch.load(massive_run / "checkpoints" / "last.ckpt", weights_only=True)
    norms = checkpoint["ActivationDataModule"]["norms"]
    assert subject.provenance.max_norm == norms["limit"]
    assert norms["massive"] > 0
    assert norms["energy_share"] > 0.99
    assert norms["largest"] > 100


def test_every_command_counts_the_same_rows(
    massive_run: Path, subject: Subject, expected: dict[str, float], tmp_path: Path
) -> None:
    held_out = subject.tokens.held_out
    core = Core(4, 100, 100).scores(subject, untracked)
    (observation,) = observe([subject], Excerpt.of(subject, held_out.size), untracked)
    found = {
        "fit": of_stage(massive_run / "fit.json", "val"),
        "validate": of_stage(massive_run / "validate.json", "val"),
        "test": of_stage(massive_run / "test.json", "test"),
        "core": {key: core.headline[key] for key in KEYS},
        "analyze": {
            "explained_variance": observation.explained_variance,
            "explained_variance_all_rows": observation.explained_variance_all_rows,
            "left_out_fraction": 1 - observation.rows / observation.excerpt.rows,
        },
    }
    main(["compare", str(massive_run), "--output", str(tmp_path)])
    (group,) = json.loads((tmp_path / "table.json").read_text())["groups"]
    found["compare"] = {key: group["metrics"][key]["mean"] for key in KEYS}
    # A few rows of huge norm decide the value that counts them.
    assert abs(expected["explained_variance_all_rows"] - expected["explained_variance"]) > 0.2
    for values in found.values():
        assert values == pytest.approx(expected, rel=1e-4)


def test_the_language_model_keeps_what_is_left_out(massive_run: Path, subject: Subject) -> None:
    core = Core(4, 100, 100).scores(subject, untracked).unstructured["by_definition"]
    tested = json.loads((massive_run / "test.json").read_text())
    tokens = torch.from_numpy(subject.tokens.held_out.astype("int64"))
    activations = subject.model.activations(tokens)
    assert subject.provenance.max_norm is not None
    kept = activations.norm(dim=-1) <= subject.provenance.max_norm
    kept[:, 0] = False

    def spliced(x: Tensor) -> Tensor:
        return torch.where(kept[..., None], subject.autoencoder(x), x)

    log_probs = subject.model.logits(tokens, spliced).log_softmax(-1)
    losses = -log_probs[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]
    by_hand = float(losses[kept[:, :-1]].mean())
    assert core["ce_loss_spliced"] == pytest.approx(by_hand, rel=1e-4)
    assert tested["test/ce_loss_spliced"] == pytest.approx(by_hand, rel=1e-4)


def test_predictions_are_of_the_rows_that_count(
    massive_run: Path, subject: Subject, expected: dict[str, float], tmp_path: Path
) -> None:
    main(["predict", str(massive_run), "--latents.folder", str(tmp_path / "latents")])
    rows = sum(len(shard["positions"]) for shard in shards(tmp_path / "latents"))
    everything = len(subject.tokens.held_out) * 15
    assert rows == round(everything * (1 - expected["left_out_fraction"]))


def shards(folder: Path) -> list[dict[str, Tensor]]:
    return [load_file(path) for path in sorted(folder.glob("*.safetensors"))]


def test_an_export_carries_the_limit(massive_run: Path, subject: Subject, tmp_path: Path) -> None:
    for name in ("safetensors", "saelens", "dictionary_learning"):
        main(["export", str(massive_run), str(tmp_path / name), "--format", name])
        assert origin_of(tmp_path / name).provenance["max_norm"] == subject.provenance.max_norm


def test_a_resumed_run_goes_on_with_the_limit(massive_config: Path, massive_run: Path, tmp_path: Path) -> None:
    part = fitted(massive_config, tmp_path, "--trainer.max_steps", "30")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        main(["fit", "--config", str(massive_config), "--ckpt_path", str(part)])
    whole, resumed = load(massive_run).state_dict(), load(part).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_rows_are_kept_where_that_is_asked(massive_config: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="to leave them out: --data.max_norm_ratio 10"):
        run = fitted(massive_config, tmp_path, "--data.max_norm_ratio", "null", "--trainer.max_steps", "5")
    logged = json.loads((run / "fit.json").read_text())
    assert "val/explained_variance" in logged
    assert "val/explained_variance_all_rows" not in logged
    assert origin_of(run).provenance.get("max_norm") is None

"""Whole runs from the command line on a tiny model: what they write, that they resume, that ranks agree."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from filelock import FileLock
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import vsae_lightning as vl
from kills import differing
from vsae_lightning.cli import main
from vsae_lightning.data.language_model import LanguageModel

STEPS = 12
HOOK = "blocks.1.hook_resid_post"


def checkpoint(run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return loaded


def scalars(run: Path, tag: str) -> dict[int, float]:
    events = EventAccumulator(str(run)).Reload()
    return {event.step: event.value for event in events.Scalars(tag)}


def test_run_folder_explains_itself(run: Path, tiny_model: Path) -> None:
    assert {path.name for path in run.iterdir() if not path.name.startswith("events")} == {
        "checkpoints",
        "config.yaml",
        "fit.json",
        "hparams.yaml",
        "run.json",
    }
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]
    assert checkpoint(run)["global_step"] == STEPS
    record = json.loads((run / "run.json").read_text())
    assert record["seed"] == 3
    assert record["versions"]["torch"] == torch.__version__
    assert len(record["token_store"]["key"]) == 16
    assert record["config"]["model"]["init_args"]["sparsifier"]["init_args"]["k"] == 6
    assert record["config"]["data"]["init_args"]["model_name"] == str(tiny_model)
    metrics = json.loads((run / "fit.json").read_text())
    assert metrics["train/tokens"] == STEPS * 64
    assert metrics["val/l0"] == metrics["train/l0"] == 6.0


def test_tensorboard_has_the_scalars_of_the_contract(run: Path) -> None:
    names = ["loss", "reconstruction", "kl", "kl_weight", "aux", "l0", "l0_std", "dead_fraction"]
    names += ["explained_variance", "lr", "tokens_per_second"]
    events = EventAccumulator(str(run)).Reload()
    tags = set(events.Tags()["scalars"])
    assert {f"train/{name}" for name in names} <= tags
    assert {f"val/{name}" for name in ("loss", "reconstruction", "kl", "l0", "dead_fraction", "cosine")} <= tags
    assert events.Tags()["histograms"] == ["train/log10_density"]
    warmed_up = scalars(run, "train/kl_weight")
    assert [warmed_up[step] for step in range(6)] == pytest.approx([0, 0.01, 0.02, 0.03, 0.04, 0.05])
    rate = scalars(run, "train/lr")
    assert [rate[step] for step in (0, 1, 2, 5)] == pytest.approx([0.001, 0.002, 0.003, 0.003])
    assert rate[11] == pytest.approx(0.003 * (12 - 11) / 2.4)  # total_steps is max_steps, unasked


def test_hparams_tab_knows_the_settings_and_the_metrics(run: Path) -> None:
    data = EventAccumulator(str(run)).Reload().summary_metadata
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= set(data)
    session = data["_hparams_/session_start_info"].plugin_data.content
    assert b"model/sparsifier/k" in session
    assert b"data/context_length" in session
    assert b"val/explained_variance" in data["_hparams_/experiment"].plugin_data.content


def test_the_language_model_is_in_no_checkpoint(run: Path) -> None:
    content = checkpoint(run)
    assert {name.split(".")[0] for name in content["state_dict"]} == {
        "autoencoder",
        "input_mean",
        "input_scale",
        "input_energy",
        "residual_variance",
        "usage",
    }
    assert content["state_dict"]["input_energy"] == 32  # scale_to: d_in
    assert content["ActivationDataModule"]["steps"] == STEPS
    assert content["hyper_parameters"]["sparsifier"] == {
        "class_path": "vsae_lightning.TopK",
        "init_args": {"k": 6, "by": "value", "k_start": None, "k_anneal_steps": 0},
    }


def test_load_works_in_raw_units(run: Path, tiny_model: Path) -> None:
    """What `load` returns on raw activations is what the trained module computes on scaled ones."""
    content = checkpoint(run)
    model = LanguageModel(str(tiny_model), HOOK)
    model.load("cpu")
    x = model.activations(torch.arange(64).reshape(4, 16) + 30)[:, 1:].reshape(-1, 32)
    state = {name.removeprefix("autoencoder."): value for name, value in content["state_dict"].items()}
    scale, mean = state["input_scale"], state["input_mean"]
    scaled = (x - mean) * scale
    pre_acts = (scaled - state["b_dec"]) @ state["W_enc"] + state["b_enc"]
    top = pre_acts.topk(6)
    latents = torch.zeros_like(pre_acts).scatter(1, top.indices, top.values.relu())
    x_hat = (latents @ state["W_dec"] + state["b_dec"]) / scale + mean
    for path in (run, run / "checkpoints" / "last.ckpt"):
        ae = vl.load(path)
        torch.testing.assert_close(ae.encode(x), latents, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ae(x), x_hat, rtol=1e-4, atol=1e-4)


def test_evaluations_write_into_the_run_and_agree(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["test", str(run)])
    main(["validate", str(run)])
    assert "held-out metrics" in capsys.readouterr().out
    assert not (run.parent / "version_1").exists()
    fitted = json.loads((run / "fit.json").read_text())
    validated = json.loads((run / "validate.json").read_text())
    for name in ("explained_variance", "cosine", "l0", "dead_fraction", "reconstruction", "kl", "loss"):
        assert validated[f"val/{name}"] == pytest.approx(fitted[f"val/{name}"], rel=1e-5)
    tested = json.loads((run / "test.json").read_text())
    assert tested["train/tokens"] == STEPS * 64
    assert tested["checkpoint"].endswith("last.ckpt")
    assert tested["config"]["model"]["class_path"] == "vsae_lightning.VSAE"


def test_explained_variance_of_the_test_is_recomputed(run: Path, tiny_model: Path, corpus: Path, config: Path) -> None:
    """The whole path again, without Lightning: held-out tokens, model, load, one formula."""
    main(["test", str(run)])
    data = yaml.safe_load(config.read_text())["data"]["init_args"]
    model = LanguageModel(str(tiny_model), HOOK)
    model.load("cpu")
    text = vl.TextFiles(str(corpus), separator="\n\n", held_out_fraction=0.2)
    eos = model.tokenizer.eos_token_id
    ids = [i for d in text.documents() if d.held_out for i in [*model.tokenizer(d.text)["input_ids"], eos]]
    rows = torch.tensor(ids[: len(ids) // 16 * 16]).reshape(-1, 16)
    assert data["context_length"] == 16
    x = model.activations(rows)[:, 1:].reshape(-1, 32).double()
    x_hat = vl.load(run).double()(x)
    explained = 1 - (x - x_hat).square().sum() / (x - x.mean(0)).square().sum()
    written = json.loads((run / "test.json").read_text())
    assert written["test/explained_variance"] == pytest.approx(explained.item(), abs=1e-4)


def test_predicted_latents_are_those_of_the_tokens(run: Path, tiny_model: Path) -> None:
    main(["predict", str(run)])
    shards = list(vl.read_latents(run / "latents"))
    assert len(shards) == len(list((run / "latents").glob("*.safetensors"))) > 1
    whole = {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}
    assert set(whole) == {"values", "indices", "token_ids", "positions", "sequences"}
    assert whole["values"].shape[1] == 6
    assert whole["positions"].unique().tolist() == list(range(1, 16))
    first = whole["sequences"] == 0
    model = LanguageModel(str(tiny_model), HOOK)
    model.load("cpu")
    # Position 0 is not stored; the model attends to it, so take the sequence from a run of the tokens.
    stored = torch.zeros(15, 96).scatter(1, whole["indices"][first], whole["values"][first])
    text = yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]["text"]["init_args"]
    documents = vl.TextFiles(text["paths"], separator="\n\n", held_out_fraction=0.2).documents()
    ids = next(model.tokenizer(document.text)["input_ids"] for document in documents if document.held_out)[:16]
    assert whole["token_ids"][first].tolist() == ids[1:]
    expected = vl.load(run).encode(model.activations(torch.tensor([ids]))[0, 1:])
    torch.testing.assert_close(stored, expected, rtol=1e-3, atol=1e-4)


def test_latents_that_are_not_whole_are_refused(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "latents"
    main(["predict", str(run), "--latents.folder", str(folder)])
    shard = sorted(folder.glob("*.safetensors"))[1]
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(vl.InputError, match=f"{shard.name}: not what vsae predict wrote"):
        next(vl.read_latents(folder))
    shard.unlink()
    with pytest.raises(vl.InputError, match=f"{shard.name}: not what vsae predict wrote"):
        next(vl.read_latents(folder))
    (folder / "index.json").write_text('{"shards": {"../run.yaml": {}}}')
    with pytest.raises(vl.InputError, match=r"names '\.\./run\.yaml', which is not what vsae predict wrote"):
        next(vl.read_latents(folder))
    (folder / "index.json").unlink()  # as where it was killed
    with pytest.raises(vl.InputError, match="holds no whole latents"):
        next(vl.read_latents(folder))


def test_contradicting_the_checkpoint_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, expected in [
        (["--model.sparsifier.k", "9"], "model.init_args.sparsifier.init_args.k is 9, but the checkpoint has 6"),
        (["--model.kl_on", "all"], "model.init_args.kl_on is 'all', but the checkpoint has 'selected'"),
        (["--data.hook_name", "blocks.1.mlp.hook_post"], "the checkpoint has d_in 32, but the activations of this"),
    ]:
        with pytest.raises(SystemExit) as exit_:
            main(["test", str(run), *options])
        assert exit_.value.code == 2
        assert expected in capsys.readouterr().err


def test_going_on_is_refused_where_it_would_not_be_the_same_run(
    run: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    resume = ["fit", "--config", str(config), "--ckpt_path", str(run / "checkpoints" / "last.ckpt")]
    longer = ["--trainer.max_steps", str(STEPS + 2)]
    for options, expected in [
        ([], f"the run is at step {STEPS} already, and finished; to go on, raise trainer.max_steps."),
        ([*longer, "--model.optimizer.lr", "0.5"], "optimizer.init_args.lr is 0.5, but the checkpoint has 0.003"),
        ([*longer, "--data.batch_size", "128"], "data.batch_size is 128, but the run of the checkpoint has 64"),
        ([*longer, "--data.seed", "4"], "data.seed is 4, but the run of the checkpoint has 3"),
    ]:
        with pytest.raises(SystemExit) as exit_:
            main([*resume, *options])
        assert exit_.value.code == 2
        assert expected in capsys.readouterr().err
    assert list(tmp_path.glob("lightning_logs/*")) == []
    kept = yaml.safe_load((run / "config.yaml").read_text())
    assert kept["data"]["init_args"]["batch_size"] == 64  # not that of the refused


def test_bad_input_found_late_leaves_no_run(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fewer sequences than a block, and an optimizer that refuses its learning rate: known after the logger is."""
    monkeypatch.chdir(tmp_path)
    for options, expected in [
        (["--data.block_sequences", "80000"], "block_sequences is 80000, but there are only"),
        (["--model.optimizer.lr", "-1"], "model.init_args.optimizer: Invalid learning rate: -1.0"),
    ]:
        with pytest.raises(SystemExit) as exit_:
            main(["fit", "--config", str(config), *options])
        assert exit_.value.code == 2
        assert expected in capsys.readouterr().err
        assert list(tmp_path.glob("lightning_logs/*")) == []


def test_a_folder_that_was_there_before_outlives_bad_input(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "lightning_logs" / "precious" / "notes.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    with pytest.raises(SystemExit):
        main(
            ["fit", "--config", str(config), "--data.block_sequences", "80000", "--trainer.logger.version", "precious"]
        )
    assert kept.read_text() == "mine"


def test_last_is_a_run_of_this_precision_and_accumulation_alone(
    run: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run.parent, tmp_path / "lightning_logs")
    main(["fit", "--config", str(config), "--ckpt_path", "last"])
    assert "is finished" in " ".join(capsys.readouterr().out.split())
    main(["fit", "--config", str(config), "--ckpt_path", "last", "--trainer.gradient_clip_val", "0.5"])
    capsys.readouterr()
    assert checkpoint(tmp_path / "lightning_logs" / "version_1")["global_step"] == STEPS
    other = ["--trainer.accumulate_grad_batches", "2", "--trainer.max_steps", "20"]
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(config), "--ckpt_path", str(tmp_path / "lightning_logs" / "version_0"), *other])
    assert "accumulate_grad_batches is 2, but the run of the checkpoint has 1" in capsys.readouterr().err


def test_a_run_is_trained_by_one_process_at_a_time(
    run: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run.parent, tmp_path / "lightning_logs")
    folder = tmp_path / "lightning_logs" / "version_0"
    before = sorted(path.name for path in folder.iterdir())
    with FileLock(folder / ".lock"), pytest.raises(SystemExit) as exit_:
        main(["fit", "--config", str(config), "--ckpt_path", "last", "--trainer.max_steps", "20"])
    assert exit_.value.code == 2
    assert "is being trained by another process" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == before  # no log entries either


def test_a_module_is_rebuilt_from_its_checkpoint_alone(run: Path) -> None:
    from lightning.pytorch import LightningModule

    module = LightningModule.load_from_checkpoint(run / "checkpoints" / "last.ckpt", map_location="cpu")
    assert isinstance(module, vl.VSAE)
    assert module.kl_weight == 0.05
    assert module.tokens_seen == STEPS * 64
    assert torch.equal(module.autoencoder.W_enc, checkpoint(run)["state_dict"]["autoencoder.W_enc"])


@pytest.mark.parametrize("stop", [1, 5, 7])
def test_a_resumed_run_ends_bit_equal(
    run: Path, config: Path, stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within a block, at its end, and in the next; the schedule is that of the whole run; one folder."""
    monkeypatch.chdir(tmp_path)
    whole = ["fit", "--config", str(config), "--model.scheduler.total_steps", str(STEPS)]
    at_the_end = ["--trainer.limit_val_batches", "0"] if stop < 6 else []  # no validation that the whole has not
    main([*whole, "--trainer.max_steps", str(stop), *at_the_end])
    main([*whole, "--ckpt_path", "last"])
    (resumed,) = (tmp_path / "lightning_logs").iterdir()
    # total_steps is said in the one, and the trainer's in the other.
    found = [place for place in differing(resumed, run) if not place.startswith("/hyper_parameters/scheduler")]
    assert found == []
    before = (resumed / "checkpoints" / "last.ckpt").stat()
    main([*whole, "--ckpt_path", "last"])  # finished: nothing is done
    assert (resumed / "checkpoints" / "last.ckpt").stat() == before


def test_two_ranks_are_one_run(run: Path, config: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vsae_lightning", "fit", "--config", str(config)]
    distributed = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    subprocess.run([*command, *distributed], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    two, one = checkpoint(tmp_path / "lightning_logs" / "version_0"), checkpoint(run)
    assert two["tokens_seen"] == one["tokens_seen"]
    assert torch.equal(two["state_dict"]["input_scale"], one["state_dict"]["input_scale"])
    for name in ("usage.tokens_since_fired", "usage.first_fired"):
        assert torch.equal(two["state_dict"][name], one["state_dict"][name])
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], value, rtol=0, atol=2e-5)


def test_never_dead_is_warned_of(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="AuxK can never fire"):
        main(["fit", "--config", str(config), "--trainer.max_steps", "2", "--model.dead_after_tokens", "128"])

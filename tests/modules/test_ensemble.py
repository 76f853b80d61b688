"""Members of an ensemble are what they would have been alone."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule

import vsae_lightning as vl
from vsae_lightning.cli import main

OPTIMIZER = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.003}}
COMMON = {"d_sae": 96, "dead_after_tokens": 256, "optimizer": OPTIMIZER}
TOPK = {"class_path": "TopK", "init_args": {"k": 6}}
ARMS: dict[str, dict[str, Any]] = {
    "sae": {"class_path": "SAE", "init_args": {**COMMON, "sparsifier": TOPK}},
    "sampled": {
        "class_path": "VSAE",
        "init_args": {
            **COMMON,
            "sparsifier": {"class_path": "TopK", "init_args": {"k": 4}},
            "sigma": "learned",
            "kl_weight": 0.05,
            "seed": 8,
            "scheduler": {"class_path": "WarmupDecay", "init_args": {"warmup_steps": 3}},
        },
    },
    "denoising": {
        "class_path": "VSAE",
        "init_args": {
            **COMMON,
            "sparsifier": {"class_path": "BatchTopK", "init_args": {"k": 5}},
            "sigma": 0.2,
            "covariance": "encoder",
            "kl_weight": 0.0,
            "gate_kl_weight": 0.02,
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01, "momentum": 0.9}},
        },
    },
    "resampled": {
        "class_path": "SAE",
        "init_args": {
            **COMMON,
            "sparsifier": {"class_path": "JumpReLU", "init_args": {"threshold": 2.0}},  # so high that latents die
            "sparsity_weight": 0.3,
            "resample_every_steps": 5,
        },
    },
}


def fit(config: Path, model: dict[str, Any], folder: Path, *options: str) -> Path:
    """The run folder of the shared config with another model."""
    content = yaml.safe_load(config.read_text())
    content["model"] = model
    folder.mkdir(exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["fit", "--config", str(path), *options])
    return sorted((folder / "lightning_logs").iterdir())[-1]


def ensemble(*names: str) -> dict[str, Any]:
    return {"class_path": "Ensemble", "init_args": {"members": {name: ARMS[name] for name in names}}}


@pytest.fixture(scope="module")
def together(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(config, ensemble(*ARMS), tmp_path_factory.mktemp("together"))


def checkpoint(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return content


@pytest.mark.parametrize("name", ARMS)
def test_a_member_is_bit_equal_to_itself_alone(name: str, together: Path, config: Path, tmp_path: Path) -> None:
    alone = checkpoint(fit(config, ARMS[name], tmp_path / "alone"))["state_dict"]
    prefix = f"arms.{name}."
    member = {k[len(prefix) :]: v for k, v in checkpoint(together)["state_dict"].items() if k.startswith(prefix)}
    assert member.keys() == alone.keys()
    for key, value in alone.items():
        assert torch.equal(value, member[key]), key


def test_members_differ_and_have_trained(together: Path) -> None:
    state = checkpoint(together)["state_dict"]
    start = vl.SAE(32, 96, vl.TopK(6), seed=3).autoencoder.W_enc
    weights = [state[f"arms.{name}.autoencoder.W_enc"] for name in ARMS]
    assert all(not torch.equal(a, b) for i, a in enumerate(weights) for b in [*weights[:i], start])


def test_optimizers_of_an_ensemble_are_those_of_its_members(together: Path) -> None:
    states = checkpoint(together)["optimizer_states"][0]["optimizers"]
    moments = [set(next(iter(state["state"].values()))) for state in states]
    assert moments[0] == {"step", "exp_avg", "exp_avg_sq"}
    assert moments[2] == {"momentum_buffer"}


@pytest.mark.parametrize("name", ARMS)
def test_each_member_is_loaded_by_its_name(name: str, together: Path) -> None:
    loaded = vl.load(together, member=name)
    state = checkpoint(together)["state_dict"]
    scale = state[f"arms.{name}.input_scale"]
    torch.testing.assert_close(loaded.W_dec.data, state[f"arms.{name}.autoencoder.W_dec"] / scale)
    assert type(loaded.sparsifier).__name__ == ARMS[name]["init_args"]["sparsifier"]["class_path"]


def test_a_wrong_member_is_refused_by_name(together: Path, run: Path) -> None:
    with pytest.raises(vl.InputError, match=r"has no member .none.; give one of its members: sae, sampled"):
        vl.load(together, member="none")
    with pytest.raises(vl.InputError, match="is an ensemble; give one of its members: sae"):
        vl.load(together)
    with pytest.raises(vl.InputError, match=r"member is .sae., but .* is no ensemble"):
        vl.load(run, member="sae")


def test_a_resumed_ensemble_ends_where_it_would_have(together: Path, config: Path, tmp_path: Path) -> None:
    begun = fit(config, ensemble(*ARMS), tmp_path / "begun", "--trainer.max_steps", "7")
    options = ("--ckpt_path", str(begun / "checkpoints" / "last.ckpt"), "--trainer.max_steps", "12")
    assert fit(config, ensemble(*ARMS), tmp_path / "begun", *options) == begun  # it goes on in its own folder
    resumed, whole = checkpoint(begun), checkpoint(together)
    # The schedule of "sampled" follows max_steps, which differs over the first 7 steps: the others must agree.
    for key, value in whole["state_dict"].items():
        if ".sampled." not in key:
            assert torch.equal(value, resumed["state_dict"][key]), key


def test_metrics_have_the_name_of_their_member(together: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(together))
    events.Reload()
    scalars, histograms = set(events.Tags()["scalars"]), set(events.Tags()["histograms"])
    for name in ARMS:
        kinds = ("loss", "reconstruction", "explained_variance", "l0", "dead_fraction", "lr")
        assert {f"train/{name}/{kind}" for kind in kinds} <= scalars
        assert {f"val/{name}/{kind}" for kind in ("explained_variance", "cosine", "l0", "dead_fraction")} <= scalars
        assert f"train/{name}/log10_density" in histograms
    assert "train/sampled/kl" in scalars
    assert "train/sae/kl" not in scalars
    assert "train/denoising/gate_kl" in scalars
    last = {name: events.Scalars(f"train/{name}/l0")[-1].value for name in ("sae", "sampled")}
    assert last == {"sae": 6.0, "sampled": 4.0}


def test_test_and_predict_serve_every_member(together: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file

    monkeypatch.chdir(together.parents[1])
    main(["test", str(together)])
    main(["predict", str(together)])
    shard = load_file(together / "latents" / "sampled" / "latents-00-000000.safetensors")
    assert shard["values"].shape[1] == 4
    assert len(shard["token_ids"]) == len(shard["values"])


def test_two_ranks_train_the_same_ensemble(together: Path, tmp_path: Path) -> None:
    """BatchTopK within lanes, noise on the input, usage of the whole batch, candidates of all ranks for resampling."""
    command = [sys.executable, "-m", "vsae_lightning", "fit", "--config", str(together.parents[1] / "config.yaml")]
    distributed = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    subprocess.run([*command, *distributed], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    two = checkpoint(tmp_path / "lightning_logs" / "version_0")["state_dict"]
    for name, value in checkpoint(together)["state_dict"].items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=3e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_an_ensemble_is_rebuilt_from_its_checkpoint_alone(together: Path) -> None:
    module = LightningModule.load_from_checkpoint(together / "checkpoints" / "last.ckpt", map_location="cpu")
    assert isinstance(module, vl.Ensemble)
    weights = checkpoint(together)["state_dict"]["arms.denoising.autoencoder.W_enc"]
    assert torch.equal(module.members()["denoising"].autoencoder.W_enc, weights)


def test_resampling_took_place(together: Path, config: Path, tmp_path: Path) -> None:
    """Latents restarted at steps 5 and 10 of 12 have been silent for less time than any that died without."""
    without = {**ARMS["resampled"], "init_args": {**ARMS["resampled"]["init_args"], "resample_every_steps": None}}
    silent = checkpoint(fit(config, without, tmp_path / "without"))["state_dict"]["usage.tokens_since_fired"]
    assert (silent > 256 + 2 * 64).sum() > 10
    state = checkpoint(together)["state_dict"]
    resampled, first = (state[f"arms.resampled.usage.{name}"] for name in ("tokens_since_fired", "first_fired"))
    assert resampled.max() < 256 + 2 * 64
    # A restarted latent is new: it fired after the restart for the first time, or not yet.
    assert (first[first > 0] % 64 == 0).all()
    assert (first == -1).any()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "members is empty"),
        ({"a.b": lambda d_in: vl.SAE(d_in, 8, vl.ReLU())}, "members has 'a.b'"),
        ({"items": lambda d_in: vl.SAE(d_in, 8, vl.ReLU())}, "members has 'items', a name that torch uses"),
    ],
)
def test_bad_members_are_refused(members: dict[str, Any], message: str) -> None:
    with pytest.raises(vl.InputError, match=message):
        vl.Ensemble(4, members)


def test_an_ensemble_in_python() -> None:
    both = vl.Ensemble(
        4, {"a": lambda d_in: vl.SAE(d_in, 8, vl.TopK(2)), "b": lambda d_in: vl.VSAE(d_in, 9, vl.ReLU())}
    )
    assert {name: member.autoencoder.d_sae for name, member in both.members().items()} == {"a": 8, "b": 9}
    assert both.hparams["d_in"] == 4

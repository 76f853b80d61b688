"""The core evaluation of a run, recomputed with TransformerLens' own hooks and losses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.topk import TopK
from vsae_lightning.cli import main
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.core import Core, special_tokens
from vsae_lightning.evaluation.evaluation import untracked
from vsae_lightning.evaluation.subject import Subject

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def subject(run: Path) -> Subject:
    return open_subject(str(run))


def losses(subject: Subject, tokens: Tensor, hook: Any = None) -> Tensor:
    """The loss of every prediction, by TransformerLens."""
    hooks = [] if hook is None else [(HOOK, hook)]
    bridge = subject.model.bridge
    per_token: Tensor = bridge.run_with_hooks(tokens, return_type="loss", loss_per_token=True, fwd_hooks=hooks)
    return per_token


def replacing(value: Any, first: int) -> Any:
    """A hook that replaces the activations from position `first` on."""

    def hook(activations: Tensor, hook: Any) -> Tensor:
        kept = activations[:, :first]
        return torch.cat([kept, value(activations[:, first:]).expand_as(activations[:, first:])], 1)

    return hook


def test_the_losses_are_those_of_trained_positions(subject: Subject) -> None:
    """Position 0 keeps its activation, and its prediction does not count; special tokens count as any other."""
    core = Core(4, 3, 5)
    scores = core.scores(subject, untracked)
    tokens = torch.from_numpy(subject.tokens.held_out[:20].astype("int64"))
    mean = subject.model.activations(tokens)[:, 1:].mean((0, 1))
    tokens = tokens[:12]
    clean, zero, by_mean, spliced = (
        losses(subject, tokens, hook)[:, 1:].mean().item()
        for hook in (
            None,
            replacing(torch.zeros_like, 1),
            replacing(lambda x: mean, 1),
            replacing(subject.autoencoder, 1),
        )
    )
    found = scores.unstructured["by_definition"]
    assert found["ce_loss_clean"] == pytest.approx(clean, rel=1e-5)
    assert found["ce_loss_zero_ablated"] == pytest.approx(zero, rel=1e-5)
    assert found["ce_loss_mean_ablated"] == pytest.approx(by_mean, rel=1e-5)
    assert found["ce_loss_spliced"] == pytest.approx(spliced, rel=1e-5)
    assert found["ce_loss_score"] == pytest.approx((zero - spliced) / (zero - clean), rel=1e-3)
    assert scores.metrics["token_stats"] == {
        "total_tokens_eval_reconstruction": 12 * 16,
        "total_tokens_eval_sparsity_variance": 20 * 16,
    }
    assert scores.unstructured["positions"].startswith("positions 1.. of every sequence")


def test_saebenchs_convention_splices_all_and_counts_no_special_token(subject: Subject) -> None:
    found = Core(4, 3, 5, convention="saebench").scores(subject, untracked).unstructured["by_definition"]
    tokens = torch.from_numpy(subject.tokens.held_out[:12].astype("int64"))
    assert special_tokens(subject).tolist() == [0]
    counted = tokens[:, :-1] != 0
    assert (~counted).sum() > 0
    spliced = losses(subject, tokens, replacing(subject.autoencoder, 0))[counted].mean()
    assert found["ce_loss_spliced"] == pytest.approx(spliced.item(), rel=1e-5)
    zero = losses(subject, tokens, replacing(torch.zeros_like, 0))[counted].mean()
    assert found["ce_loss_zero_ablated"] == pytest.approx(zero.item(), rel=1e-5)


def test_reconstruction_is_recomputed(subject: Subject) -> None:
    scores = Core(4, 1, 5).scores(subject, untracked)
    tokens = torch.from_numpy(subject.tokens.held_out[:20].astype("int64"))
    x = subject.model.activations(tokens)[:, 1:].flatten(0, 1).double()
    latents = subject.autoencoder.encode(x.float()).double()
    x_hat = subject.autoencoder(x.float()).double()
    error = (x - x_hat).square()
    found = scores.unstructured["by_definition"]
    assert found["mse"] == pytest.approx(error.mean().item(), rel=1e-5)
    assert found["relative_error"] == pytest.approx((error.sum() / x.square().sum()).item(), rel=1e-5)
    explained = 1 - error.sum() / (x - x.mean(0)).square().sum()
    assert found["explained_variance"] == pytest.approx(explained.item(), rel=1e-5)
    assert found["alive_fraction"] == pytest.approx((latents > 0).any(0).double().mean().item())
    assert scores.metrics["sparsity"]["l0"] == found["l0"] == 6
    assert scores.metrics["sparsity"]["l1"] == pytest.approx(latents.sum(1).mean().item(), rel=1e-5)
    assert [one["feature_density"] for one in scores.details] == pytest.approx((latents > 0).double().mean(0).tolist())
    histogram = scores.unstructured["log10_density"]
    assert sum(histogram["counts"]) + histogram["never"] == 96


def test_a_negative_latent_is_alive_though_saebench_does_not_count_it(subject: Subject) -> None:
    signed = SparseAutoencoder(32, 96, TopK(6, by="magnitude"), seed=3).requires_grad_(False)
    scores = Core(4, 2, 3).scores(replace(subject, autoencoder=signed), untracked)
    x = torch.cat([subject.activations(tokens) for tokens in subject.held_out(12 * 16)])
    latents = signed.encode(x)
    alive, positive = ((active).any(0).double().mean().item() for active in (latents != 0, latents > 0))
    assert alive > positive
    assert scores.unstructured["by_definition"]["alive_fraction"] == pytest.approx(alive)
    assert scores.metrics["misc_metrics"]["frac_alive"] == pytest.approx(positive)


def test_more_batches_than_there_are_read_all_there_is(subject: Subject) -> None:
    stats = Core(16, 1000, 1000).scores(subject, untracked).metrics["token_stats"]
    assert set(stats.values()) == {subject.tokens.held_out.size}


def test_the_test_of_a_run_is_the_core_evaluation_of_all_its_held_out_tokens(subject: Subject, run: Path) -> None:
    main(["test", str(run)])
    tested = json.loads((run / "test.json").read_text())
    found = Core(16, 1000, 1000).scores(subject, untracked).unstructured
    assert len(found["by_definition"]) == 23
    for name, value in found["by_definition"].items():
        # The noise of a sample depends on the batch.
        assert tested[f"test/{name}"] == pytest.approx(value, rel=0.02 if "sampled" in name else 1e-4, abs=1e-5), name
    assert tested["test/log10_density"] == json.loads(json.dumps(found["log10_density"]))
    assert tested["test/alive_fraction"] == pytest.approx(1 - tested["test/dead_fraction"])


def test_the_command_writes_and_shows_it(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--core.batch_size_prompts", "4", "--core.n_eval_sparsity_variance_batches", "3"]
    main(["evaluate", str(run), "--suite", "core", "--output", str(tmp_path), *options])
    shown = capsys.readouterr().out
    (path,) = (tmp_path / "core").glob("*_eval_results.json")
    written = json.loads(path.read_text())
    assert written["eval_config"]["n_eval_sparsity_variance_batches"] == 3
    assert written["eval_config"]["convention"] == "training"
    score = written["eval_result_metrics"]["model_performance_preservation"]["ce_loss_score"]
    assert f"{score:.4f}" in shown
    assert "ce_loss_score" in shown


@pytest.mark.parametrize(
    ("core", "name"),
    [(Core(batch_size_prompts=0), "batch_size_prompts"), (Core(16, 0), "n_eval_reconstruction_batches")],
)
def test_no_batch_is_refused(subject: Subject, core: Core, name: str) -> None:
    with pytest.raises(InputError, match=rf"core\.{name} is 0; it must be at least 1"):
        core.scores(subject, untracked)

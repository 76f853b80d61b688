"""Our core evaluation and SAEBench's own, of the same autoencoders, on the same model and tokens."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sae_bench")

import torch
from pydantic import TypeAdapter
from sae_bench.evals.core.eval_output import CoreEvalOutput

import vsae_lightning as vl
from vsae_lightning.evaluation.core import Core
from vsae_lightning.evaluation.evaluation import untracked
from vsae_lightning.evaluation.results import write_result
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.interop.saebench.core import run as saebench_core
from vsae_lightning.provenance import Provenance

LIKE_SAEBENCH = Core(4, 3, 5, convention="saebench")


def subject_of(autoencoder: Any, tiny_model: Path, corpus: Path, folder: Path) -> Subject:
    text = {
        "class_path": "TextFiles",
        "init_args": {"paths": str(corpus), "separator": "\n\n", "held_out_fraction": 0.3},
    }
    provenance = Provenance(str(tiny_model), "blocks.1.hook_resid_post", 16, text=text, cache_dir=str(folder / "cache"))
    return Subject("tiny", folder, autoencoder.eval().requires_grad_(False), provenance)


def fitted(autoencoder: vl.SparseAutoencoder, subject: Subject) -> None:
    """A few dozen steps, so that no value is the one it began with."""
    autoencoder.requires_grad_(True)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=3e-3)
    batches = [subject.activations(tokens) for tokens in subject.held_out(2000)]
    for step in range(40):
        x = batches[step % len(batches)]
        loss = (autoencoder(x) - x).square().sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    autoencoder.requires_grad_(False)


@pytest.fixture(scope="module", params=["topk", "vsae", "jumprelu", "negative"])
def subject(
    request: pytest.FixtureRequest, tiny_model: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Subject:
    made = {
        "topk": lambda: vl.SparseAutoencoder(32, 80, vl.TopK(6)),
        "vsae": lambda: vl.VariationalAutoencoder(32, 80, vl.TopK(6), sigma="learned", seed=1),
        "jumprelu": lambda: vl.SparseAutoencoder(32, 80, vl.JumpReLU(0.5)),
        "negative": lambda: vl.VariationalAutoencoder(32, 80, vl.TopK(6, by="magnitude"), sigma=0.1),
    }[request.param]()
    subject = subject_of(made, tiny_model, corpus, tmp_path_factory.mktemp(request.param))
    fitted(made, subject)
    return subject


def leaves(metrics: dict[str, Any]) -> dict[str, float]:
    return {f"{category}/{name}": value for category, values in metrics.items() for name, value in values.items()}


@pytest.mark.parametrize("exclude", [False, True])
def test_every_metric_is_saebenchs(subject: Subject, exclude: bool, tmp_path: Path) -> None:
    settings = Core(4, 3, 5, exclude, "saebench")
    theirs, ours = saebench_core(subject, settings, tmp_path), settings.scores(subject, untracked)
    expected, found = leaves(theirs["eval_result_metrics"]), leaves(ours.metrics)
    assert found.keys() == expected.keys()
    assert len(found) == 26
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=1e-5, abs=1e-5), name
    assert ours.metrics["token_stats"]["total_tokens_eval_reconstruction"] == 3 * 4 * 16


def test_every_latent_is_saebenchs(subject: Subject, tmp_path: Path) -> None:
    theirs = saebench_core(subject, LIKE_SAEBENCH, tmp_path)["eval_result_details"]
    ours = LIKE_SAEBENCH.scores(subject, untracked).details
    assert len(ours) == len(theirs) == 80
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("convention", ["training", "saebench"])
def test_the_result_is_of_saebenchs_schema(subject: Subject, convention: Any, tmp_path: Path) -> None:
    settings = Core(4, 3, 5, convention=convention)
    path = tmp_path / "result.json"
    write_result(path, settings, subject, settings.scores(subject, untracked), 1.0)
    read = TypeAdapter(CoreEvalOutput).validate_json(path.read_text())
    assert read.eval_config.n_eval_reconstruction_batches == 3
    assert read.eval_config.compute_kl
    assert json.loads(path.read_text())["eval_result_unstructured"]["positions"]

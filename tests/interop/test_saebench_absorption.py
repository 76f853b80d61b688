"""Our absorption against SAEBench's own, of one autoencoder on the bundled model."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("sae_bench")

from pydantic import TypeAdapter
from sae_bench.evals.absorption.eval_output import AbsorptionEvalOutput

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.topk import TopK
from vsae_lightning.data.text import BUNDLED
from vsae_lightning.evaluation.absorption import Absorption
from vsae_lightning.evaluation.evaluation import untracked
from vsae_lightning.evaluation.results import result_path, write_result
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.interop.saebench import absorption
from vsae_lightning.provenance import Provenance

# So few words, and a probe that need not be good, that something is measured in a few seconds.
EVALUATION = Absorption(
    words_per_letter=20,
    min_GT_probe_f1=0.05,
    min_feats_for_eval=2,
    max_k_value=3,
    k_sparse_probe_num_epochs=10,
)


def subject(folder: Path) -> Subject:
    autoencoder = SparseAutoencoder(256, 512, TopK(16), decoder="free", seed=1)
    with torch.no_grad():
        autoencoder.fold_input_scaling(torch.zeros(256), torch.tensor(0.2))
    return Subject(
        "random", folder, autoencoder.requires_grad_(False), Provenance("bundled", "blocks.2.hook_resid_post")
    )


def test_the_numbers_are_saebenchs(tmp_path: Path) -> None:
    evaluated = subject(tmp_path)
    ours = EVALUATION.scores(evaluated, untracked)
    before = sorted((BUNDLED / "model").rglob("*"))
    theirs = absorption.run(evaluated, EVALUATION, tmp_path / "theirs")
    assert sorted((BUNDLED / "model").rglob("*")) == before
    assert len(ours.details) == len(theirs["eval_result_details"]) >= 2
    for detail, expected in zip(ours.details, theirs["eval_result_details"], strict=True):
        assert detail == pytest.approx(expected, abs=1e-3)
    assert ours.metrics["mean"] == pytest.approx(theirs["eval_result_metrics"]["mean"], abs=1e-3)
    mean = ours.metrics["mean"]["mean_absorption_fraction_score"]
    assert mean is not None
    assert 0 < mean < 1

    path = result_path(tmp_path, EVALUATION, evaluated.name)
    write_result(path, EVALUATION, evaluated, ours, seconds=1.0)
    TypeAdapter(AbsorptionEvalOutput).validate_python(json.loads(path.read_text()))
    written = tmp_path / "theirs" / path.name
    assert json.loads(written.read_text())["eval_result_metrics"] == theirs["eval_result_metrics"]

"""Our meta-SAE against SAEBench's own, which trains one of SAELens."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("sae_bench")

from pydantic import TypeAdapter
from sae_bench.evals.meta_structure.eval_output import MetaStructureEvalOutput

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.topk import TopK
from vsae_lightning.evaluation.evaluation import untracked
from vsae_lightning.evaluation.meta_sae import MetaSAE
from vsae_lightning.evaluation.results import result_path, write_result
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.interop.saebench import meta
from vsae_lightning.provenance import Provenance


@pytest.mark.parametrize(
    "evaluation",
    [
        MetaSAE(train_steps=200, train_batch_size=128, autocast=False),
        MetaSAE(train_steps=200, train_batch_size=128, autocast=False, unit_rows=False),
        MetaSAE(train_steps=200, train_batch_size=128, eval_batch_size=100),
    ],
    ids=["float32", "rows as they are", "autocast"],
)
def test_the_variance_explained_is_saebenchs(evaluation: MetaSAE, tmp_path: Path) -> None:
    autoencoder = SparseAutoencoder(32, 256, TopK(4), decoder="free", seed=1)
    with torch.no_grad():
        autoencoder.fold_input_scaling(torch.zeros(32), torch.tensor(0.2))
    subject = Subject(
        "random", tmp_path, autoencoder.requires_grad_(False), Provenance("bundled", "blocks.2.hook_resid_post")
    )
    ours = evaluation.scores(subject, untracked)
    theirs = meta.run(subject, evaluation, tmp_path / "theirs")["eval_result_metrics"]["meta_structure"]
    for name in ("decoder_fraction_variance_explained", "final_reconstruction_mse"):
        assert ours.metrics["meta_structure"][name] == pytest.approx(theirs[name], abs=1e-3)

    path = result_path(tmp_path, evaluation, subject.name)
    write_result(path, evaluation, subject, ours, seconds=1.0)
    TypeAdapter(MetaStructureEvalOutput).validate_python(json.loads(path.read_text()))

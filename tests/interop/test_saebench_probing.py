"""Our k-sparse probing beside SAEBench's own, on the same autoencoder, language model and sets of sae-probes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sae_bench")

from pydantic import TypeAdapter
from sae_bench.evals.sparse_probing_sae_probes import SparseProbingSaeProbesEvalOutput
from sae_probes.run_sae_evals import get_sorted_indices, mean_act_normalization
from sae_probes.utils_data import get_train_test_indices, get_yvals
from sae_probes.utils_training import find_best_reg
from scipy.sparse import csr_array

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.topk import TopK
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.evaluation import Scores, untracked
from vsae_lightning.evaluation.labelled import labelled_names, read_labelled
from vsae_lightning.evaluation.last_tokens import last_token_activations, sparse_latents
from vsae_lightning.evaluation.probes import balanced_split, by_mean_difference
from vsae_lightning.evaluation.probing import FEW, Probing
from vsae_lightning.evaluation.results import result_path, write_result
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.interop.saebench.probing import run as run_saebench
from vsae_lightning.provenance import Provenance

NAMES = ("119_us_state_TX", "130_temp_cat_Frequency")
PROBING = Probing(datasets=",".join(NAMES))


@pytest.fixture(scope="module", params=["trained vSAE", "bundled"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """A vSAE that was trained on the tiny model, or a TopK SAE of the bundled model."""
    if request.param == "trained vSAE":
        return open_subject(str(request.getfixturevalue("run")))
    autoencoder = SparseAutoencoder(256, 512, TopK(8)).requires_grad_(False)
    return Subject("bundled", Path(), autoencoder, Provenance("bundled", "blocks.1.hook_resid_post"))


@pytest.fixture(scope="module")
def ours(subject: Subject) -> Scores:
    return PROBING.scores(subject, untracked)


def test_every_number_is_saebenchs(subject: Subject, ours: Scores, tmp_path: Path) -> None:
    theirs = run_saebench(subject, PROBING, tmp_path)
    shared = [("llm", f"llm_test_{metric}") for metric in ("accuracy", "auc", "f1")]
    shared += [("sae", f"sae_top_{k}_test_{metric}") for k in (1, 2, 5) for metric in ("accuracy", "auc", "f1")]
    details = {detail["dataset_name"]: detail for detail in theirs["eval_result_details"]}
    for kind, metric in shared:
        assert ours.metrics[kind][metric] == pytest.approx(theirs["eval_result_metrics"][kind][metric], abs=1e-3)
        for detail in ours.details:
            assert detail[metric] == pytest.approx(details[detail["dataset_name"]][metric], abs=1e-3), metric
    assert list(tmp_path.glob("*_custom_sae_eval_results.json"))


def test_the_probe_on_all_latents_is_that_of_sae_probes_on_all_columns(subject: Subject, ours: Scores) -> None:
    name = NAMES[0]
    activations = last_token_activations(subject, read_labelled(name).texts, PROBING.positions(subject))
    with torch.no_grad():
        latents = subject.autoencoder.encode(activations)
    labels = get_yvals(name)
    train, test = get_train_test_indices(labels, 900, 99)
    arguments: Any = (latents[train], labels[train], latents[test], labels[test])
    metrics = find_best_reg(*arguments, penalty="l2", seed=42).metrics
    (found,) = [detail for detail in ours.details if detail["dataset_name"] == name]
    assert found["sae_test_accuracy"] == pytest.approx(metrics.test_acc, abs=1e-3)


def test_latents_are_selected_in_the_order_of_sae_probes(subject: Subject) -> None:
    x = torch.randn(200, subject.autoencoder.d_in, generator=torch.Generator().manual_seed(0))
    labels = np.arange(200) % 2
    latents = sparse_latents(subject.autoencoder, x)
    dense = torch.from_numpy(latents.toarray())
    theirs = get_sorted_indices(dense, torch.from_numpy(labels), mean_act_normalization)
    assert by_mean_difference(csr_array(latents), labels)[:16].tolist() == theirs[:16].tolist()


@pytest.mark.parametrize(("seed", "size"), [(42, 1000), (7, 5000)])
def test_texts_are_split_as_in_sae_probes(seed: int, size: int) -> None:
    labels = np.random.default_rng(seed).permutation(size) % 2
    trained = min(size - 100, 1024)
    theirs = get_train_test_indices(labels, trained, size - trained - 1, seed=seed)
    ours = balanced_split(labels, seed)
    assert np.array_equal(ours.train, theirs[0])
    assert np.array_equal(ours.test, theirs[1])


def test_sets_are_read_as_sae_probes_reads_them() -> None:
    from sae_probes import DATASETS
    from sae_probes.utils_data import read_numbered_dataset_df

    assert labelled_names() == DATASETS
    assert set(FEW) <= set(DATASETS)
    for name in ("24_headline_isiran", "41_truthqa_tf", "48_cm_correct"):
        texts, labels = read_labelled(name)
        assert texts == read_numbered_dataset_df(name)["prompt"].tolist()
        assert labels == get_yvals(name).tolist()


def test_the_written_result_is_of_saebenchs_schema(subject: Subject, ours: Scores, tmp_path: Path) -> None:
    path = result_path(tmp_path, PROBING, "ours")
    write_result(path, PROBING, subject, ours, seconds=1.0)
    read = TypeAdapter(SparseProbingSaeProbesEvalOutput).validate_python(json.loads(path.read_text()))
    assert read.eval_result_metrics.sae.sae_top_5_test_accuracy == ours.metrics["sae"]["sae_top_5_test_accuracy"]
    assert read.eval_config.dataset_names == list(NAMES)
    assert read.eval_result_details[1].sae_metrics_by_k == ours.details[1]["sae_metrics_by_k"]


@pytest.mark.parametrize("changes", [{"data": "folder"}, {"max_texts": 500}])
def test_texts_that_saebench_has_not_are_refused(subject: Subject, tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "set.csv").write_text("text,label\na,1\n", encoding="utf-8")
    changes = {name: str(tmp_path) if name == "data" else value for name, value in changes.items()}
    evaluation = replace(PROBING, **changes, datasets="set" if "data" in changes else NAMES[0])
    with pytest.raises(InputError, match="SAEBench's own code"):
        run_saebench(subject, evaluation, tmp_path)

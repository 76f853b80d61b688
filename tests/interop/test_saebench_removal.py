"""Our SCR and TPP and SAEBench's own, of the same autoencoders, on the same texts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sae_bench")

import torch
from pydantic import TypeAdapter
from sae_bench.evals.scr_and_tpp import dataset_creation
from sae_bench.evals.scr_and_tpp.eval_config import ScrAndTppEvalConfig
from sae_bench.evals.scr_and_tpp.eval_output import ScrEvalOutput, TppEvalOutput
from sae_bench.evals.sparse_probing import probe_training
from sae_bench.sae_bench_utils import dataset_info, dataset_utils

import vsae_lightning as vl
from vsae_lightning.evaluation.concept_groups import class_concepts, correlated_concepts
from vsae_lightning.evaluation.concept_probes import ProbeTraining, against_rest
from vsae_lightning.evaluation.evaluation import untracked
from vsae_lightning.evaluation.hub_concepts import HUB_SETS, HubSet
from vsae_lightning.evaluation.removal import SCR, TPP
from vsae_lightning.evaluation.results import result_name, write_result
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.interop.saebench.removal import run as saebench_removal
from vsae_lightning.provenance import Provenance

SCHEMAS = {"scr": ScrEvalOutput, "tpp": TppEvalOutput}
SMALL: dict[str, Any] = {"data": "sae-probes", "train_set_size": 80, "test_set_size": 40, "context_length": 24}


def trained(autoencoder: vl.SparseAutoencoder, subject: Subject) -> None:
    """So few steps that nothing is as it began, and biases are not zero, as they matter at padding."""
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=1e-2)
    for tokens in subject.held_out(8 * 32 * 64):
        x = subject.activations(tokens)
        loss = (autoencoder(x) - x).square().sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    autoencoder.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=["topk", "vsae", "relu"])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp(request.param)
    provenance = Provenance(
        "bundled", "blocks.1.hook_resid_post", 64, max_tokens=40000, cache_dir=str(folder / "cache")
    )
    d_in = provenance.language_model().d_in
    made: vl.SparseAutoencoder
    if request.param == "topk":
        made = vl.SparseAutoencoder(d_in, 512, vl.TopK(16))
    elif request.param == "vsae":
        made = vl.VariationalAutoencoder(d_in, 512, vl.TopK(16), sigma="learned", seed=1)
    else:
        made = vl.SparseAutoencoder(d_in, 512, vl.ReLU())
    subject = Subject("bundled", folder, made, provenance)
    trained(made, subject)
    return subject


@pytest.mark.parametrize("evaluation", [SCR(**SMALL), TPP(**SMALL)], ids=["scr", "tpp"])
def test_every_metric_is_saebenchs(subject: Subject, evaluation: SCR | TPP, tmp_path: Path) -> None:
    theirs = saebench_removal(subject, evaluation, tmp_path)
    assert json.loads((tmp_path / result_name(subject.name)).read_text())["eval_id"] == theirs["eval_id"]
    assert torch.is_grad_enabled()
    ours = evaluation.scores(subject, untracked)

    def equal(mine: dict[str, Any], other: dict[str, Any]) -> None:
        names = {name for name in mine if name != "dataset_name"}
        assert {name for name, value in other.items() if name != "dataset_name" and value is not None} <= names
        for name in names:
            assert (mine[name] is None) == (other[name] is None), name
            assert mine[name] is None or abs(mine[name] - other[name]) < 1e-3, (name, mine[name], other[name])

    equal(ours.metrics[evaluation.category], theirs["eval_result_metrics"][evaluation.category])
    assert any(abs(value) > 0.02 for value in ours.metrics[evaluation.category].values() if value is not None)
    by_name = {detail["dataset_name"]: detail for detail in theirs["eval_result_details"]}
    assert set(by_name) == {detail["dataset_name"] for detail in ours.details}
    for detail in ours.details:
        equal({**dict.fromkeys(by_name[detail["dataset_name"]]), **detail}, by_name[detail["dataset_name"]])
    for name, classes in (theirs["eval_result_unstructured"] or {}).items():
        for concept, values in classes.items():
            equal(ours.unstructured["per_class"][f"{name}_tpp"][concept], values)


@pytest.mark.parametrize("evaluation", [SCR(**SMALL), TPP(**SMALL)], ids=["scr", "tpp"])
def test_the_json_is_of_saebenchs_schema(subject: Subject, evaluation: SCR | TPP, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_result(path, evaluation, subject, evaluation.scores(subject, untracked), 1.0)
    content = json.loads(path.read_text(encoding="utf-8"))
    read = TypeAdapter(SCHEMAS[evaluation.type_id]).validate_python(content)
    assert read.eval_config.dataset_names == [table.name for table in evaluation.tables()]
    assert read.eval_config.perform_scr == (evaluation.type_id == "scr")
    (category,) = content["eval_result_metrics"].values()
    assert set(category) == set(vars(getattr(read.eval_result_metrics, evaluation.category)))
    for detail, own in zip(read.eval_result_details, content["eval_result_details"], strict=True):
        assert {name: getattr(detail, name) for name in own} == own


def test_a_probe_is_saebenchs_bit_for_bit() -> None:
    rng = torch.Generator().manual_seed(1)
    rows = {name: torch.arange(24) + 24 * place for place, name in enumerate("abc")}
    x = torch.randn(72, 10, generator=rng)
    x[:24] += 0.5
    named = {name: x[of] for name, of in rows.items()}
    torch.manual_seed(3)
    settings = {"epochs": 5, "lr": 1e-2, "early_stopping_patience": 2, "l1_penalty": 1e-2}
    theirs, _ = probe_training.train_probe_on_activations(named, named, use_sklearn=False, batch_size=16, **settings)
    ours = torch.Generator().manual_seed(3)
    for name in rows:
        train, test = (against_rest(rows, name, ours) for _ in range(2))
        probe = ProbeTraining(16, 5, 1e-2, 1e-2, 2).fit(x[train.rows], train.labels, x[test.rows], test.labels, ours)
        assert torch.equal(probe.weight, theirs[name].net.weight)
        assert torch.equal(probe.bias, theirs[name].net.bias)


@pytest.mark.parametrize("source", HUB_SETS, ids=["bias_in_bios", "amazon"])
def test_texts_of_the_hub_are_chosen_as_saebench_chooses_them(source: HubSet, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    text, concept, attribute = source.columns
    splits = {
        split: {
            text: [f"{split} {row}" for row in range(n)],
            concept: rng.choice([*source.concepts, 12], n).tolist(),
            attribute: rng.choice([*source.attributes], n).tolist(),
        }
        for split, n in (("train", 1500), ("test", 900))
    }
    for module in (dataset_creation, dataset_utils):
        monkeypatch.setattr(module, "load_dataset", lambda name: splits)
    table = source.table(splits, "made up")
    for concepts, pair in zip(correlated_concepts(table, 80, 40, 42), table.pairs, strict=True):
        theirs = dataset_creation.get_train_test_data(
            source.name, True, 80, 40, 42, pair, tuple(dataset_info.dataset_metadata[source.hub]["column2_mapping"])
        )
        for mine, other in zip((concepts.train, concepts.test), theirs, strict=True):
            assert list(mine.values()) == list(other.values())
    (concepts,) = class_concepts(table, 80, 40, 42)
    theirs = dataset_creation.get_train_test_data(source.name, False, 80, 40, 42)
    chosen = dataset_info.chosen_classes_per_dataset[source.name]
    assert [{value: name for name, value in _numbers(source).items()}[int(c)] for c in chosen] == list(concepts.train)
    for mine, other in zip((concepts.train, concepts.test), theirs, strict=True):
        assert list(mine.values()) == [other[c] for c in chosen]


def _numbers(source: HubSet) -> dict[str, int]:
    return dataset_info.dataset_metadata[source.hub]["column1_mapping"]


@pytest.mark.parametrize("source", HUB_SETS, ids=["bias_in_bios", "amazon"])
def test_sets_of_the_hub_are_those_of_saebench(source: HubSet) -> None:
    theirs = dataset_info.dataset_metadata[source.hub]
    columns = (theirs["text_column_name"], theirs["column1_name"], theirs["column2_name"])
    assert source.columns == columns
    assert {name: number for number, name in source.concepts.items()}.items() <= _numbers(source).items()
    assert list(source.pairs) == ScrAndTppEvalConfig().column1_vals_lookup[source.name]

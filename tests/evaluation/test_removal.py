"""SCR and TPP where every number is known, on hand-built latents; and end to end on a local copy of labelled texts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

import vsae_lightning as vl
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.ablation import readout, strongest
from vsae_lightning.evaluation.concept_groups import CORRELATED
from vsae_lightning.evaluation.concept_removal import Encoded
from vsae_lightning.evaluation.evaluation import untracked
from vsae_lightning.evaluation.removal import SCR, TPP
from vsae_lightning.evaluation.removal_scores import Measured, scr_metrics, scr_score, tpp_metrics
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.evaluation.text_means import TextMeans, text_means
from vsae_lightning.provenance import Provenance


def identity(width: int) -> vl.SparseAutoencoder:
    """Latents are the positive activations; every decoder row is an axis."""
    autoencoder = vl.SparseAutoencoder(width, width, vl.ReLU())
    with torch.no_grad():
        autoencoder.W_enc.copy_(torch.eye(width))
        autoencoder.W_dec.copy_(torch.eye(width))
    return autoencoder.requires_grad_(False)


def subject_with(autoencoder: vl.SparseAutoencoder) -> Subject:
    return Subject("toy", Path(), autoencoder, Provenance("none", "blocks.0.hook_resid_post"))


def encoded(activations: Tensor, groups: Mapping[str, list[int]], latents: Tensor | None = None) -> Encoded:
    """Texts of one token each, whose latents are their activations where no others are given."""
    values = activations if latents is None else latents
    means = TextMeans(activations, csr_array(values.numpy()), torch.zeros(len(activations)))
    return Encoded(means, {name: torch.tensor(rows) for name, rows in groups.items()})


def probe(weight: list[float], bias: float) -> nn.Linear:
    made = nn.Linear(len(weight), 1).requires_grad_(False)
    made.weight.copy_(torch.tensor([weight]))
    made.bias.fill_(bias)
    return made


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_ablating_the_latent_of_a_class_brings_its_probe_to_chance_and_leaves_the_others() -> None:
    groups = {name: list(range(8 * place, 8 * place + 8)) for place, name in enumerate("abc")}
    texts = encoded(4 * torch.eye(3).repeat_interleave(8, 0), groups)
    probes = {name: probe(torch.eye(3)[place].tolist(), -2.0) for place, name in enumerate("abc")}
    found = TPP(n_values=(1,)).ablations(subject_with(identity(3)), texts, texts, probes, generator())
    assert found.clean == {(name, name): 1.0 for name in "abc"}
    # Without its latent a probe says no to everything: right for the half that are of other classes.
    assert found.ablated["b"][1] == {("a", "a"): 1.0, ("b", "b"): 0.5, ("c", "c"): 1.0}
    expected = {
        "tpp_threshold_1_total_metric": 0.5,
        "tpp_threshold_1_intended_diff_only": 0.5,
        "tpp_threshold_1_unintended_diff_only": 0.0,
    }
    assert tpp_metrics(found) == dict.fromkeys("abc", expected)


# Axes: the concept and its opposite, the attribute and its opposite.
CELLS = torch.tensor([[1.0, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1]])
BOTH, FIRST_ONLY, SECOND_ONLY, NEITHER = 0, 1, 2, 3
IN_GROUPS = [[BOTH, SECOND_ONLY], [FIRST_ONLY, NEITHER], [BOTH, FIRST_ONLY], [SECOND_ONLY, NEITHER], [BOTH], [NEITHER]]


def correlated(latents: Tensor | None = None) -> Encoded:
    return encoded(CELLS, dict(zip(CORRELATED, IN_GROUPS, strict=True)), latents)


def correlated_probes() -> dict[str, nn.Linear]:
    """The biased one hears the attribute three times as loud as the concept."""
    return {
        "attribute": probe([0, 0, 1, -1], 0.0),
        "concept": probe([1, -1, 0, 0], 0.0),
        "biased": probe([1, -1, 3, -3], 0.0),
    }


def test_perfect_removal_scores_one_and_half_of_it_one_half() -> None:
    found = SCR(n_values=(1, 2)).ablations(
        subject_with(identity(4)), correlated(), correlated(), correlated_probes(), generator()
    )
    assert found.clean["concept", "concept"] == found.clean["attribute", "attribute"] == 1
    assert found.clean["biased", "concept"] == 0.5
    assert found.clean["biased", "attribute"] == 1
    # One of the attribute's two latents gone: one of the two texts that contradict it is judged by its concept.
    assert found.ablated["attribute"][1]["biased", "concept"] == 0.75
    assert found.ablated["attribute"][2]["biased", "concept"] == 1
    assert scr_metrics(found) == {
        "scr_dir1_threshold_1": 0.5,
        "scr_metric_threshold_1": 0.5,
        "scr_dir1_threshold_2": 1.0,
        "scr_metric_threshold_2": 1.0,
        # The biased probe loses nothing on the attribute.
        "scr_dir2_threshold_1": 0.0,
        "scr_dir2_threshold_2": 0.0,
    }


def test_no_latent_of_the_attribute_scores_zero() -> None:
    blind = CELLS * torch.tensor([1.0, 1, 0, 0])
    found = SCR(n_values=(2,)).ablations(
        subject_with(identity(4)), correlated(blind), correlated(blind), correlated_probes(), generator()
    )
    assert scr_metrics(found)["scr_metric_threshold_2"] == 0


def test_the_metric_is_of_the_direction_in_which_the_biased_probe_is_worse() -> None:
    clean = {("concept", "concept"): 0.9, ("attribute", "attribute"): 0.8, ("biased", "concept"): 0.7}
    after = {("biased", "concept"): 0.6, ("biased", "attribute"): 0.7}
    ablated = {"attribute": {5: after}, "concept": {5: after}}
    worse = scr_metrics(Measured({**clean, ("biased", "attribute"): 0.6}, ablated))
    assert worse["scr_metric_threshold_5"] == worse["scr_dir2_threshold_5"] == pytest.approx(0.5)
    assert worse["scr_dir1_threshold_5"] == pytest.approx(-0.5)
    assert "scr_metric_threshold_5" not in scr_metrics(Measured({**clean, ("biased", "attribute"): 0.7}, ablated))


def test_a_score_without_a_loss_is_zero() -> None:
    assert scr_score(0.9, 0.8995, 0.1) == 0
    assert scr_score(0.9, 0.5, 0.7) == pytest.approx(0.5)


def test_unintended_is_the_mean_loss_of_the_others() -> None:
    clean = {(name, name): 0.9 for name in "abc"}
    after = {("a", "a"): 0.6, ("b", "b"): 0.8, ("c", "c"): 0.88}
    found = tpp_metrics(Measured(clean, {name: {2: after} for name in "abc"}))["a"]
    assert found["tpp_threshold_2_intended_diff_only"] == pytest.approx(0.3)
    assert found["tpp_threshold_2_unintended_diff_only"] == pytest.approx(0.06)
    assert found["tpp_threshold_2_total_metric"] == pytest.approx(0.24)


def test_the_strongest_are_no_more_than_have_an_effect() -> None:
    effects = torch.tensor([0.0, 3.0, 0.0, -1.0, 2.0])
    assert strongest(effects, 2).tolist() == [False, True, False, False, True]
    assert strongest(effects, 5).sum() == 3
    assert not strongest(torch.zeros(4), 2).any()


TEXTS = ["the quick brown fox", "a lazy dog and packs my box with five dozen liquor jugs", "fox", "jugs " * 40]


@pytest.fixture(scope="module", params=["topk", "relu"])
def subject(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    sparsifier = vl.TopK(6) if request.param == "topk" else vl.ReLU()
    autoencoder = vl.SparseAutoencoder(32, 64, sparsifier).eval().requires_grad_(False)
    # So that latents are active at an activation of zero, as those of padding are in SAEBench.
    autoencoder.b_enc.copy_(torch.linspace(-0.5, 0.5, 64))
    provenance = Provenance(str(tiny_model), "blocks.1.hook_resid_post", 16, lm_batch_sequences=3)
    return Subject("tiny", tmp_path_factory.mktemp("tiny"), autoencoder, provenance)


def one_by_one(subject: Subject, text: str, length: int) -> tuple[Tensor, Tensor]:
    """Activations [length, d_in] of one text that is padded all the way, and which of them count."""
    tokenizer = subject.model.bridge.tokenizer
    tokens = tokenizer([text], truncation=True, max_length=length, padding="max_length", return_tensors="pt")
    kept = tokens["input_ids"][0] != tokenizer.bos_token_id
    return subject.model.activations(tokens["input_ids"])[0] * kept[:, None], kept


def test_means_are_over_the_tokens_of_each_text(subject: Subject) -> None:
    means = text_means(subject, TEXTS, 24, untracked, "")
    for row, text in enumerate(TEXTS):
        x, kept = one_by_one(subject, text, 24)
        assert torch.allclose(means.activations[row], x[kept].mean(0), atol=1e-5)
        latents = subject.autoencoder.encode(x[kept]).mean(0)
        assert torch.allclose(torch.from_numpy(means.latents[[row]].toarray()[0]), latents, atol=1e-5)
        assert means.left_out[row] == pytest.approx((24 - kept.sum().item()) / kept.sum().item())


def test_ablation_is_that_of_every_token_decoded(subject: Subject) -> None:
    means = text_means(subject, TEXTS, 24, untracked, "")
    rng = generator()
    probes = [probe(torch.randn(32, generator=rng).tolist(), 0.3) for _ in range(2)]
    ablated = torch.rand(64, generator=rng) < 0.3
    seen = readout(subject.autoencoder, probes)
    logits = seen.logits(means) - seen.of_ablated(means, ablated)
    for row, text in enumerate(TEXTS):
        x, kept = one_by_one(subject, text, 24)
        latents = subject.autoencoder.encode(x)
        error = x - subject.autoencoder.decode(latents)
        modified = subject.autoencoder.decode(latents * ~ablated) + error
        mean = modified.sum(0) / kept.sum()
        expected = torch.stack([p(mean)[0] for p in probes])
        assert torch.allclose(logits[row], expected, atol=1e-4)
    assert (seen.at_zero[ablated] != 0).any()


@pytest.fixture(scope="module")
def biographies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local copy with the columns of bias_in_bios, of nonsense that tells professions and genders apart."""
    folder = tmp_path_factory.mktemp("bios")
    words = {0: "fox", 1: "dog", 2: "box", 6: "jugs", 9: "five", 11: "quick", 13: "lazy", 21: "brown", 22: "packs"}
    words |= {25: "jumps", 26: "over"}
    for split, count in (("train", 24), ("test", 14)):
        rows = [
            {"hard_text": f"{word} {'a' * (number % 7 + 1)} {'my' if gender else 'the'} {word} {number}"}
            | {"profession": profession, "gender": gender}
            for number in range(count)
            for profession, word in words.items()
            for gender in (0, 1)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


SMALL: dict[str, Any] = {"train_set_size": 32, "test_set_size": 16, "context_length": 24, "n_values": (2, 50, 100)}


def test_scr_of_a_local_copy(subject: Subject, biographies: Path) -> None:
    evaluation = SCR(data=str(biographies), **SMALL)
    found = evaluation.scores(subject, untracked)
    metrics = found.metrics["scr_metrics"]
    assert list(metrics) == [f"scr_{kind}_threshold_{n}" for n in (2, 50, 100) for kind in ("dir1", "metric", "dir2")]
    assert metrics["scr_dir1_threshold_2"] is not None
    assert metrics["scr_dir1_threshold_100"] is None  # of 64 latents
    pairs = ["professor_nurse", "architect_journalist", "surgeon_psychologist", "attorney_teacher"]
    name = "LabHC/bias_in_bios_class_set1_scr_"
    assert [detail["dataset_name"] for detail in found.details] == [f"{name}{pair}_results" for pair in pairs]
    average = sum(detail["scr_dir1_threshold_2"] for detail in found.details) / 4
    assert metrics["scr_dir1_threshold_2"] == pytest.approx(average)
    # 6 m of training and 6 m of test texts, each once, though groups share them.
    assert found.headline[f"texts of {name}professor_nurse"] == 6 * 8 + 6 * 4
    assert "local copy" in found.unstructured["data"]["LabHC/bias_in_bios_class_set1"]
    settings = evaluation.settings(subject)
    assert settings["perform_scr"] is True
    assert settings["dataset_names"] == ["LabHC/bias_in_bios_class_set1"]
    assert settings["column1_vals_lookup"]["LabHC/bias_in_bios_class_set1"][0] == ("professor", "nurse")
    assert evaluation.scores(subject, untracked) == found


def test_tpp_of_a_local_copy(subject: Subject, biographies: Path) -> None:
    found = TPP(data=str(biographies), **SMALL).scores(subject, untracked)
    metrics = found.metrics["tpp_metrics"]
    for n in (2, 50):
        total = metrics[f"tpp_threshold_{n}_total_metric"]
        intended = metrics[f"tpp_threshold_{n}_intended_diff_only"]
        unintended = metrics[f"tpp_threshold_{n}_unintended_diff_only"]
        assert intended is not None
        assert unintended is not None
        assert total == pytest.approx(intended - unintended)
    classes = found.unstructured["per_class"]["LabHC/bias_in_bios_class_set1_tpp"]
    assert list(classes) == ["accountant", "architect", "attorney", "dentist", "filmmaker"]
    mean = sum(values["tpp_threshold_2_total_metric"] for values in classes.values()) / 5
    assert metrics["tpp_threshold_2_total_metric"] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_values": (0,)}, "n_values"),
        ({"train_set_size": 2}, "train_set_size is 2"),
        ({"context_length": 65}, "context_length is 65"),
        ({"data": "/nowhere", "context_length": 24}, "data: '/nowhere' has no"),
    ],
)
def test_a_bad_setting_is_named(subject: Subject, biographies: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        SCR(**{"data": str(biographies), **options}).scores(subject, untracked)

"""k-sparse probing of a dictionary made by hand, in which one latent is the label of the texts."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.sparsifiers import ReLU, Sparsifier
from vsae_lightning.autoencoders.topk import TopK
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.evaluation import untracked
from vsae_lightning.evaluation.labelled import INSTALL
from vsae_lightning.evaluation.probing import Probing
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.provenance import Provenance

WORDS = ("the", "dog", "box", "lazy")
OF_LABEL = 1


@pytest.fixture(scope="module")
def make(tiny_model: Path) -> Callable[[Sparsifier], Subject]:
    """A subject at the embeddings: latent j of 4 is 1 where the last word is WORDS[j], and else 0."""

    def subject(sparsifier: Sparsifier) -> Subject:
        made = Subject("hand", tiny_model, SparseAutoencoder(32, 4, sparsifier), Provenance(str(tiny_model), HOOK, 16))
        tokenizer = made.model.tokenizer
        ids = [tokenizer(f"a {word}")["input_ids"][-1] for word in WORDS]
        assert len(set(ids)) == len(WORDS)
        embeddings = made.model.activations(torch.tensor([ids]))[0]
        made.autoencoder.requires_grad_(False)
        made.autoencoder.W_enc.copy_(torch.linalg.pinv(embeddings))
        made.autoencoder.b_enc.fill_(-1e-3)
        return made

    return subject


HOOK = "blocks.0.hook_resid_pre"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of 400 texts that end with one of the words: the label is the word, or has nothing to do with it."""
    folder = tmp_path_factory.mktemp("sets")
    texts = [f"text {number} ends with a {WORDS[number % 4]}" for number in range(400)]
    # Half of either label: "dog" is every fourth word, so that the other label is cut to as many.
    words = [{"text": text, "label": int(number % 4 == OF_LABEL)} for number, text in enumerate(texts * 2)]
    chance = [{"text": text, "label": number // 4 % 2} for number, text in enumerate(texts)]
    for name, rows in (("word", words), ("chance", chance)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


@pytest.mark.parametrize("sparsifier", [ReLU(), TopK(2)])
def test_the_latent_of_the_label_is_selected_and_tells_it_without_error(
    make: Callable[[Sparsifier], Subject], sets: Path, sparsifier: Sparsifier
) -> None:
    scores = Probing(data=str(sets), datasets="word", ks=(1, 2)).scores(make(sparsifier), untracked)
    assert scores.unstructured["selected_latents"]["word"][0] == OF_LABEL
    assert scores.unstructured["sizes"]["word"] == {"texts": 400, "train": 300, "test": 99}
    perfect = dict.fromkeys(("test_accuracy", "test_auc", "test_f1"), 1.0)
    assert scores.details[0]["sae_metrics_by_k"] == {1: perfect, 2: perfect}
    assert scores.metrics["llm"] == {f"llm_{metric}": 1.0 for metric in perfect}
    names = ("llm_test", "sae_test", "sae_top_1_test", "sae_top_2_test")
    assert scores.headline == {f"{name}_accuracy": 1.0 for name in names}


def test_a_label_that_the_texts_do_not_have_is_told_by_chance_and_sets_are_averaged(
    make: Callable[[Sparsifier], Subject], sets: Path
) -> None:
    scores = Probing(data=str(sets), ks=(1,)).scores(make(ReLU()), untracked)
    by_name = {detail["dataset_name"]: detail["sae_top_1_test_accuracy"] for detail in scores.details}
    assert by_name["chance"] == pytest.approx(0.5, abs=3 * 0.5 / 99**0.5)
    assert scores.metrics["sae"]["sae_top_1_test_accuracy"] == pytest.approx((1 + by_name["chance"]) / 2)


def test_a_latent_that_is_on_or_off_tells_as_much_as_its_value(
    make: Callable[[Sparsifier], Subject], sets: Path
) -> None:
    evaluation = Probing(data=str(sets), datasets="word", ks=(1,), binarize=True, reg_type="l2", max_texts=300)
    scores = evaluation.scores(make(TopK(2)), untracked)
    assert scores.unstructured["sizes"]["word"] == {"texts": 300, "train": 200, "test": 99}
    assert scores.headline["sae_top_1_test_accuracy"] == 1.0


def test_settings_name_the_sets_and_what_saebench_calls_it(make: Callable[[Sparsifier], Subject], sets: Path) -> None:
    settings = Probing(data=str(sets)).settings(make(ReLU()))
    expected = {"dataset_names": ["chance", "word"], "ks": (1, 2, 5), "setting": "normal", "random_seed": 42}
    assert {name: settings[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": "words"}, "no labelled set 'words'. Did you mean word?"),
        ({"datasets": ","}, "datasets is empty"),
        ({"ks": ()}, "ks, of which one is 0; it must be at least 1"),
        ({"max_texts": 100}, "max_texts is 100; it must be at least 228"),
    ],
)
def test_settings_out_of_range_are_refused(
    make: Callable[[Sparsifier], Subject], sets: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        replace(Probing(data=str(sets)), **changes).scores(make(ReLU()), untracked)


def test_a_set_with_too_few_texts_of_one_label_is_refused(
    make: Callable[[Sparsifier], Subject], tmp_path: Path
) -> None:
    rows = [{"text": f"{number}", "label": int(number < 100)} for number in range(1000)]
    (tmp_path / "few.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(InputError, match="'few' has 100 texts of one label; it takes 114 of either"):
        Probing(data=str(tmp_path)).scores(make(ReLU()), untracked)


def test_without_sae_probes_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(InputError, match=INSTALL):
        Probing().dataset_names()

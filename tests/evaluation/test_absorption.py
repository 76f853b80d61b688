"""First-letter absorption of an autoencoder in which one latent takes the place of another on known words."""

import random
from pathlib import Path
from typing import Any

import pytest

from spelling_model import MARK, is_marked, save_model, spelling_subject
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.absorption import Absorption
from vsae_lightning.evaluation.evaluation import untracked
from vsae_lightning.evaluation.first_letters import Template, letter_of, training_and_test_prompts

SETTINGS: dict[str, Any] = {"words_per_letter": 20, "min_feats_for_eval": 20, "k_sparse_probe_batch_size": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spelling")
    save_model(folder)
    return folder


@pytest.mark.parametrize("row_norm", [1.0, 30.0])
def test_words_whose_letter_another_latent_stands_for_are_absorbed(folder: Path, row_norm: float) -> None:
    """Also in units in which decoder rows are not of norm 1."""
    subject = spelling_subject(folder, row_norm)
    evaluation = Absorption(**SETTINGS, f1_jump_threshold=0.5)  # so that the mark's latent is no part of the feature
    scores = evaluation.scores(subject, untracked)
    words = evaluation.words(subject)
    _, test = training_and_test_prompts(words, Template("{word}", 10, -1), random.Random(evaluation.random_seed))
    with_a = [prompt.word for prompt in test if letter_of(prompt.word) == 0]
    marked = [word for word in with_a if is_marked(word, subject.model.tokenizer)]
    assert 0 < len(marked) < len(with_a)
    details = {detail["first_letter"]: detail for detail in scores.details}
    assert len(details) == 26
    assert details["a"] == {
        "first_letter": "a",
        "mean_absorption_fraction": pytest.approx(len(marked) / len(with_a)),
        "full_absorption_rate": pytest.approx(len(marked) / len(with_a)),
        "num_full_absorption": len(marked),
        "num_probe_true_positives": len(with_a),
        "num_split_features": 1,
    }
    assert all(details[letter]["mean_absorption_fraction"] == 0 for letter in "bcdefghijklmnopqrstuvwxyz")
    mean = scores.metrics["mean"]
    assert mean["mean_absorption_fraction_score"] == pytest.approx(len(marked) / len(with_a) / 26)
    assert mean["mean_num_split_features"] == 1


def test_the_latent_is_part_of_the_feature_where_it_adds_to_its_f1(folder: Path) -> None:
    scores = Absorption(**SETTINGS).scores(spelling_subject(folder), untracked)
    assert scores.unstructured["letters"]["a"]["split_features"] == [0, MARK]
    assert scores.details[0]["num_split_features"] == 2
    assert scores.metrics["mean"]["mean_absorption_fraction_score"] == 0


def test_too_few_letters_are_no_error_and_no_number(folder: Path) -> None:
    scores = Absorption(**SETTINGS, min_GT_probe_f1=1.0).scores(spelling_subject(folder), untracked)
    assert set(scores.metrics["mean"].values()) == {None}
    assert scores.details == []
    assert "min_feats_for_eval = 20" in scores.unstructured["reason"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt_token_pos": -5}, r"prompt_token_pos is -5: there is 'has'"),
        ({"prompt_template": "the first letter:"}, r"it must have \{word\} in it"),
        ({"max_k_value": 28}, r"max_k_value is 28; .* 27"),
        ({"icl_examples": 16}, r"icl_examples is 16: the prompts have up to \d+ tokens, .* 128 positions"),
        ({"icl_examples": 5000}, r"icl_examples is 5000, but there are"),
    ],
)
def test_settings_that_cannot_be(folder: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Absorption(**SETTINGS, **settings).scores(spelling_subject(folder), untracked)

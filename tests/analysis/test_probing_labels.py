"""Which labelled texts a feature tells apart, against the textbook's area under the curve."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from sklearn.metrics import roc_auc_score

from vsae_lightning.analysis import probing_labels as module
from vsae_lightning.analysis.probing_labels import areas_under_curve, probing_labels
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.evaluation.evaluation import untracked
from vsae_lightning.evaluation.labelled import LabelledTexts
from vsae_lightning.evaluation.last_tokens import last_token_activations


def test_areas_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COLUMNS", 4)  # several parts, the last one shorter
    chance = np.random.default_rng(0)
    labels = chance.integers(0, 2, 80)
    dense = np.where(chance.random((80, 9)) < 0.4, chance.standard_normal((80, 9)) + labels[:, None], 0)
    dense[:, 2] = 0
    found = areas_under_curve(scipy.sparse.csr_array(dense), labels)
    np.testing.assert_allclose(found, [roc_auc_score(labels, column) for column in dense.T])
    assert found[2] == 0.5


def test_a_label_is_the_set_that_is_told_apart_best(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["fox", "dog", "jugs", "box"]
    sets = {
        "ends_in_dog": [
            (f"{word} {end}", int(end == "dog")) for word in words for end in ("dog", "fox") for _ in range(30)
        ],
        "by_chance": [(f"{word} dog", number % 2) for word in words for number in range(60)],
    }
    labelled = {name: LabelledTexts(*map(list, zip(*rows, strict=True))) for name, rows in sets.items()}
    monkeypatch.setattr(module, "read_labelled", lambda name: labelled[name])
    subject = open_subject(str(run))
    found = probing_labels(subject, list(sets), untracked)
    texts, labels = labelled["ends_in_dog"]
    latents = subject.autoencoder.encode(last_token_activations(subject, texts, 64)).detach().numpy()
    areas = np.array([roc_auc_score(labels, column) for column in latents.T])
    areas = np.maximum(areas, 1 - areas)
    np.testing.assert_allclose(found.auc, np.maximum(areas, 0.5))
    assert found.names == ["ends_in_dog" if area >= 0.7 else None for area in areas]
    assert 0 < sum(name is not None for name in found.names) < 96

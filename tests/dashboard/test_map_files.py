"""The data of the maps, as the pages read it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vsae_lightning.analysis.excerpt import Excerpt
from vsae_lightning.analysis.maps import Maps
from vsae_lightning.analysis.observation import Observation, observe
from vsae_lightning.analysis.probing_labels import ProbingLabels
from vsae_lightning.commands.subjects import open_subject
from vsae_lightning.dashboard import map_files
from vsae_lightning.dashboard.data_files import read_data, writer
from vsae_lightning.dashboard.map_files import write_maps
from vsae_lightning.evaluation.evaluation import untracked

SET = "24_headline_isiran"


@pytest.fixture(scope="module")
def observation(run: Path) -> Observation:
    subject = open_subject(str(run))
    return observe([subject], Excerpt.of(subject, 1600), untracked)[0]


@pytest.fixture(scope="module")
def report(observation: Observation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    labels = ProbingLabels([SET if latent % 2 else None for latent in range(96)], np.full(96, 0.8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(map_files, "probing_labels", lambda *_: labels)
        options = Maps(which="decoder", samples=50, perplexity=5, labels=SET)
        written = write_maps(writer(folder), observation, options, untracked)
    assert written._asdict() == {"maps": ["decoder"], "samples": True}
    return folder


def test_a_map_of_features(report: Path) -> None:
    found: dict[str, Any] = read_data(report, "maps/decoder")
    assert list(found) == ["title", "how", "features", "x", "y", "cluster", "numbers", "labels"]
    assert all(len(found[key]) == len(found["features"]) for key in ("x", "y", "cluster", "labels"))
    assert found["labels"] == [SET if feature % 2 else None for feature in found["features"]]
    assert all(number.keys() == {"name", "value", "help"} for number in found["numbers"])
    assert "decoder directions" in found["how"]


def test_the_map_of_samples(report: Path, observation: Observation) -> None:
    found: dict[str, Any] = read_data(report, "samples")
    assert [colour["key"] for colour in found["colours"]] == ["norm", "offset", "held_out", "cluster_decoder"]
    assert {colour["kind"] for colour in found["colours"]} == {"number", "integer", "category"}
    offsets, tokens = found["colours"][1]["values"], observation.excerpt.tokens
    for context, offset, strongest in zip(found["contexts"], offsets, found["features"], strict=True):
        # Sequences of 16 tokens: the context is all that is at most 12 before and after it.
        assert context["at"] == min(offset, 12)
        assert len(context["tokens"]) == min(16, offset + 13) - max(0, offset - 12)
        assert any((row[max(0, offset - 12) : offset + 13] == context["tokens"]).all() for row in tokens)
        assert len(strongest) == 5
    assert len(found["x"]) == len(found["y"]) == len(found["cluster"]) == len(offsets) == 50


def test_of_what_is_not_asked_for_there_is_no_file(observation: Observation, tmp_path: Path) -> None:
    written = write_maps(writer(tmp_path), observation, Maps(which="none", samples=0), untracked)
    assert (written.maps, written.samples) == ([], False)
    assert not list(tmp_path.iterdir())

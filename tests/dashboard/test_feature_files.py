"""What the pages of features read, against the dense latents that it is of."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dense_firings import DenseFirings, dense_firings, observation_of
from silent import silent
from vsae_lightning.analysis.columns import Column, columns
from vsae_lightning.analysis.contexts import Contexts
from vsae_lightning.analysis.features import Features
from vsae_lightning.analysis.firings import Events
from vsae_lightning.analysis.lens import Lens
from vsae_lightning.analysis.neighbours import by_decoder, by_firing
from vsae_lightning.analysis.predicates import Predicate
from vsae_lightning.dashboard.data_files import read_data, writer
from vsae_lightning.dashboard.feature_files import _histogram, write_features

D_SAE = 70
RANDOM = np.random.default_rng(0)
LENS = Lens(*(RANDOM.integers(0, 50, (D_SAE, 6)) if part % 2 == 0 else RANDOM.random((D_SAE, 6)) for part in range(4)))


def described(made: DenseFirings, lens: Lens | None = LENS) -> Features:
    observation = observation_of(made)
    decoder = by_decoder(observation, 3)
    extra = Column("seen", "seen", "by hand", "number", np.where(np.arange(D_SAE) % 2 == 0, np.nan, 0.123456))
    return Features(
        observation,
        [*columns(observation, decoder), extra],
        [[1, 2]] * D_SAE,
        lens,
        decoder,
        by_firing(observation, 3),
    )


def pages(folder: Path, prefix: str = "") -> list[Any]:
    shards = [read_data(folder, f"{prefix}features/{shard:04d}") for shard in (0, 1)]
    assert [shard["first"] for shard in shards] == [0, 64]
    assert [len(shard["features"]) for shard in shards] == [64, 6]
    return [page for shard in shards for page in shard["features"]]


def near(value: Any) -> Any:
    return pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("signed", [False, True])
def test_a_page_is_of_the_dense_latents(tmp_path: Path, signed: bool) -> None:
    made = dense_firings(d_sae=D_SAE, signed=signed)
    tokens = made.excerpt.tokens.ravel()
    write_features(writer(tmp_path), described(made), Contexts(strongest=4, before=2, after=3), silent)
    for feature, page in enumerate(pages(tmp_path)):
        column = made.dense[:, feature]
        values = column[column != 0]
        assert page["feature"] == feature
        if not len(values):
            assert page["histogram"] is None
            assert page["contexts"] == page["intervals"] == page["near_firing"] == []
            continue
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        assert page["histogram"]["edges"] == near([low + part * (high - low) / 20 for part in range(21)])
        bins = [min(19, int((value - low) / (high - low) * 20)) for value in values.tolist()]
        assert page["histogram"]["counts"] == [bins.count(part) for part in range(20)]
        ranked = np.argsort(-np.abs(column), kind="stable")[:4]
        top = [context for context in page["contexts"] if context["interval"] == 0]
        assert [context["position"] for context in top] == ranked[: len(values)].tolist()
        for context in page["contexts"]:
            peak, at = context["position"], context["at"]
            first = max(peak // 10 * 10, peak - 2)
            last = min(peak // 10 * 10 + 10, peak + 4)
            assert at == peak - first
            assert context["tokens"] == tokens[first:last].tolist()
            here = {place: column[first + place] for place in range(last - first) if column[first + place]}
            assert dict(context["values"]) == near(here)
            assert context["held_out"] is (peak < 30)
            assert context["sigma"] == near(made.sigma[peak, feature])


def test_intervals_are_named_from_strong_to_weak(tmp_path: Path) -> None:
    made = dense_firings(d_sae=D_SAE)
    write_features(writer(tmp_path), described(made), Contexts(strongest=2, intervals=3, per_interval=4), silent)
    page = pages(tmp_path)[60]
    strength = np.sort(made.dense[:, 60])[::-1]
    top = float(strength[0])
    assert page["intervals"] == [
        {"name": "strongest", "from": near(strength[1]), "to": near(top)},
        {"name": "3 of 3", "from": near(2 / 3 * top), "to": near(top)},
        {"name": "2 of 3", "from": near(1 / 3 * top), "to": near(2 / 3 * top)},
        {"name": "1 of 3", "from": 0, "to": near(1 / 3 * top)},
    ]
    for context in page["contexts"]:
        interval = page["intervals"][context["interval"]]
        value = dict(context["values"])[context["at"]]
        assert interval["from"] <= value * 1.001
        assert value <= interval["to"] * 1.001


def test_neighbours_tokens_and_columns_are_those_that_were_found(tmp_path: Path) -> None:
    features = described(dense_firings(d_sae=D_SAE))
    predicates = [None, Predicate("the token is 'a'", [3], 0.5, 0.4, 0.6)] * (D_SAE // 2)
    write_features(writer(tmp_path), features, Contexts(), silent, predicates=predicates, prefix="other/")
    found = pages(tmp_path, "other/")
    assert [page["predicate"] for page in found] == [one and one._asdict() for one in predicates]
    for feature in (1, 69):
        page = found[feature]
        for name in ("decoder", "firing"):
            of = getattr(features, name).of(feature)
            assert page[f"near_{name}"] == [[other, near(likeness)] for other, likeness in of]
        promoted = zip(LENS.promoted[feature].tolist(), LENS.promoted_logits[feature], strict=True)
        assert page["promoted"] == [[token, near(logit)] for token, logit in promoted]
        suppressed = zip(LENS.suppressed[feature].tolist(), LENS.suppressed_logits[feature], strict=True)
        assert page["suppressed"] == [[token, near(logit)] for token, logit in suppressed]
    table = read_data(tmp_path, "other/columns")
    assert table["top_tokens"] == features.top_tokens
    assert table["promoted"] == LENS.promoted[:, :5].tolist()
    for column, written in zip(features.columns, table["columns"], strict=True):
        assert {key: written[key] for key in ("key", "name", "help", "kind")} == {
            key: value for key, value in vars(column).items() if key != "values"
        }
        expected = [None if np.isnan(value) else near(value) for value in column.values.tolist()]
        assert written["values"] == expected
    assert table["columns"][-1]["values"][:2] == [None, 0.1235]


def test_some_features_alone_have_pages(tmp_path: Path) -> None:
    features = described(dense_firings(d_sae=D_SAE))
    write_features(writer(tmp_path), features, Contexts(), silent, only=[65, 69])
    assert [path.name for path in (tmp_path / "data" / "features").iterdir()] == ["0001.js"]
    shard = read_data(tmp_path, "features/0001")
    assert shard["first"] == 64
    assert [page and page["feature"] for page in shard["features"]] == [None, 65, None, None, None, 69]
    assert len(read_data(tmp_path, "columns")["columns"][0]["values"]) == D_SAE


def test_without_a_lens_nothing_is_promoted(tmp_path: Path) -> None:
    write_features(writer(tmp_path), described(dense_firings(d_sae=D_SAE), lens=None), Contexts(), silent, only=[3])
    assert read_data(tmp_path, "columns")["promoted"] == [[]] * D_SAE
    page = read_data(tmp_path, "features/0000")["features"][3]
    assert page["promoted"] == page["suppressed"] == []


@pytest.mark.parametrize("own_text", [True, False])
def test_only_of_its_own_text_it_is_known_what_is_held_out(own_text: bool, tmp_path: Path) -> None:
    features = described(dense_firings(d_sae=D_SAE))
    observation = replace(features.observation, own_text=own_text)
    write_features(writer(tmp_path), replace(features, observation=observation), Contexts(), silent)
    excerpt = observation.excerpt
    contexts = [context for page in pages(tmp_path) for context in page["contexts"]]
    assert len(contexts) > 0
    for context in contexts:
        expected = context["position"] < excerpt.held_out * excerpt.context_length
        assert context["held_out"] is (expected if own_text else None)


def test_an_axis_is_cut_where_one_value_would_decide_it() -> None:
    values = np.concatenate([np.linspace(0.1, 1.0, 200), [500.0]]).astype(np.float32)
    found = _histogram(Events(np.arange(len(values)), values, None))
    assert found is not None
    assert found["edges"][-1] == pytest.approx(3 * np.quantile(values, 0.99))
    assert found["counts"].sum() == 201
    assert found["counts"][-1] == 1
    assert found["beyond"] == {"count": 1, "largest": 500.0}
    signed = _histogram(Events(np.arange(len(values)), -values, None))
    assert signed is not None
    assert (signed["edges"][-1], signed["counts"][0], signed["beyond"]["largest"]) == (0.0, 1, 500.0)


def test_an_axis_without_such_a_value_is_whole() -> None:
    values = np.linspace(0.1, 1.0, 200).astype(np.float32)
    found = _histogram(Events(np.arange(200), values, None))
    assert found is not None
    assert found["edges"][-1] == 1.0
    assert "beyond" not in found

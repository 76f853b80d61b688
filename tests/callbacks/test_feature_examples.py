"""`FeatureExamples`: the text of a run, read back as TensorBoard shows it, and recomputed from its checkpoint."""

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html

import vsae_lightning as vl
from vsae_lightning.callbacks import FeatureExamples
from vsae_lightning.callbacks.literal_markdown import literal
from vsae_lightning.cli import main
from vsae_lightning.commands.subjects import open_subject

FEATURES = [0, 3, 7, 50]  # of conftest.py


def texts(folder: Path) -> dict[str, dict[int, str]]:
    """By tag and step, what is rendered."""
    events = EventAccumulator(str(folder), {"tensors": 0}).Reload()
    return {
        tag.removesuffix("/text_summary"): {
            event.step: markdown_to_safe_html(event.tensor_proto.string_val[0]) for event in events.Tensors(tag)
        }
        for tag in events.Tags()["tensors"]
        if tag.endswith("/text_summary")
    }


def rows_of(shown: str) -> list[tuple[float, str]]:
    """Value and context of every row of the table."""
    cells = re.findall(r"<td>(.*?)</td>", shown, re.DOTALL)
    plain = [html.unescape(re.sub(r"</?strong>", "*", cell)) for cell in cells]
    return [(float(value), context) for value, context in zip(plain[::2], plain[1::2], strict=True)]


def found_by_hand(run: Path, feature: int, count: int) -> tuple[int, list[tuple[float, str]]]:
    """The strongest contexts of a feature of a trained run on its first 20 held-out sequences of 16."""
    subject = open_subject(str(run))
    tokens = torch.from_numpy(subject.tokens.held_out[:20].astype("int64"))
    values = subject.autoencoder.encode(subject.activations(tokens)).detach()[:, feature].reshape(20, 15)
    decode: Any = subject.model.tokenizer.decode
    found = []
    for sequence, place in values.nonzero().tolist():
        at, row = place + 1, tokens[sequence].tolist()
        before, after = decode(row[max(0, at - 12) : at]), decode(row[at + 1 : at + 13])
        found.append((float(values[sequence, place]), f"{before}*⟦{decode([row[at]])}⟧*{after}"))
    return len(found), sorted(found, key=lambda context: -context[0])[:count]


def assert_the_same(run: Path, shown: dict[str, dict[int, str]], count: int) -> None:
    """What was shown at the end of a run is what its checkpoint says; some latents fire, or nothing is shown."""
    fired = 0
    for tag, steps in shown.items():
        firings, expected = found_by_hand(run, int(tag.rpartition("_")[2]), count)
        assert f"fires in {firings} of 300 held-out rows" in steps[11]
        for (value, context), (right, text) in zip(rows_of(steps[11]), expected, strict=True):
            assert value == pytest.approx(right, rel=2e-3)
            assert context.strip() == text.strip()
        fired += bool(firings)
    assert fired > 1


def test_the_strongest_contexts_are_those_of_the_trained_autoencoder(watched: Path) -> None:
    shown = texts(watched)
    assert set(shown) == {f"train/feature_{feature}" for feature in FEATURES}
    assert all(set(steps) == {5, 11} for steps in shown.values())
    assert_the_same(watched, shown, 3)


def test_of_a_sharded_run_latents_of_every_rank_are_shown(sharded: Path) -> None:
    folder = sharded / "lightning_logs" / "version_0"
    shown = texts(folder)
    features = [int(tag.rpartition("_")[2]) for tag in shown]
    assert len(features) == 8
    assert min(features) < 48 <= max(features)  # the second rank's
    assert_the_same(folder, shown, 5)


def test_every_member_has_its_own(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = yaml.safe_load(config.read_text())
    common = {"d_sae": 20, "sparsifier": {"class_path": "TopK", "init_args": {"k": 4}}}
    members: dict[str, Any] = {
        "topk": {"class_path": "SAE", "init_args": common},
        "vsae": {"class_path": "VSAE", "init_args": {**common, "sigma": 0.1, "kl_weight": 0.01, "seed": 1}},
    }
    content["model"] = {"class_path": "Ensemble", "init_args": {"members": members}}
    content["trainer"]["max_steps"] = 2
    content["feature_examples"] = {"every_n_steps": 2, "features": 3, "max_tokens": 16}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    main(["fit", "--config", "run.yaml"])
    shown = texts(tmp_path / "lightning_logs" / "version_0")
    names = {name: sorted(tag for tag in shown if f"/{name}/" in tag) for name in members}
    assert [len(tags) for tags in names.values()] == [3, 3]
    assert [tag.replace("topk", "vsae") for tag in names["topk"]] == names["vsae"]  # the same three of both
    assert all("of 15 held-out rows" in text for steps in shown.values() for text in steps.values())


def test_a_feature_that_there_is_not_is_refused_before_the_run(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(config), "--feature_examples.features", "[1, 96]"])
    assert stop.value.code == 2
    assert "feature_examples.features has 96; the autoencoder has 96, counted from 0" in capsys.readouterr().err
    assert not list(tmp_path.glob("lightning_logs/*"))


@pytest.mark.parametrize(
    "text",
    [
        "</td><script>alert('x')</script> &amp; <b>bold</b>",
        "**bold** _it_ `code` [link](http://x) ![i](y) # no | cell | \\ ~~",
        "1. no list - nor + this * ! {a} \U0001f468\u200d\U0001f469 \u05d0\u05d1",
    ],
)
def test_text_is_shown_as_it_is(text: str) -> None:
    """In a cell, and by TensorBoard's own renderer."""
    shown = markdown_to_safe_html(f"| a | b |\n| --- | --- |\n| x | {literal(text)}**⟦{literal(text)}⟧** |")
    _, cell = re.findall(r"<td>(.*?)</td>", shown, re.DOTALL)
    assert html.unescape(re.sub(r"</?strong>", "", cell)) == f"{text}⟦{text}⟧"
    assert set(re.findall(r"<(\w+)", shown)) == {"table", "thead", "tbody", "tr", "th", "td", "strong"}


def test_what_cannot_be_seen_is_named() -> None:
    shown = html.unescape(literal("a\n\tb\x07\u202ec\u2028"))
    assert shown == "a↵⇥b[U+0007][U+202E]c[U+2028]"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FeatureExamples(0), r"feature_examples\.every_n_steps is 0"),
        (lambda: FeatureExamples(5, features=-1), r"feature_examples\.features is -1"),
        (lambda: FeatureExamples(5, features=[2, -3]), r"feature_examples\.features is -3"),
        (lambda: FeatureExamples(5, max_tokens=0), r"feature_examples\.max_tokens is 0"),
        (lambda: FeatureExamples(5, strongest=0), r"feature_examples\.strongest is 0"),
    ],
)
def test_bad_settings_are_refused(build: Callable[[], FeatureExamples], message: str) -> None:
    with pytest.raises(vl.InputError, match=message):
        build()

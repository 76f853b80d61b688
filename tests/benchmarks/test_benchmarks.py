"""Every benchmark runs at sizes that take a second, and what it leaves behind says what it measured."""

import json
import math
import sys
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import pytest
import torch

from benchmarks import growth, large, live, operators, step, stream
from benchmarks.contest import SKIPPED, Contestant, contest
from benchmarks.workers.harness import StepRecorder, run, whole_buffers

VARIANTS = ["SAE", "vSAE, sigma 0.1", "vSAE, sigma learned"]


@dataclass(frozen=True)
class Expected:
    """What every table has under `key`, which columns have to be positive, who is absent, whose loss is shown."""

    names: list[list[Any]]
    key: str
    positive: tuple[str, ...]
    units: tuple[str, ...]
    settings: dict[str, Any]
    absent: tuple[str, ...] = ()
    learn: list[str] = field(default_factory=list)


FLOORS = ["encoder product", "two products", "product + noise", "noise"]
STEP_PEERS = (
    "dictionary_learning",
    "SAELens",
    "SAELens, sparse",
    "SAELens, sparse, no rescaling",
    "sparsify",
)
EXPECTED = {
    "step": Expected(
        [[*FLOORS, *VARIANTS, *STEP_PEERS]],
        "contestant",
        ("ms", "per_product", "per_ours"),
        ("ms per step", "d_sae · 4 B"),
        step.TINY,
        STEP_PEERS,
        VARIANTS,
    ),
    "stream": Expected(
        [["ours", "dictionary_learning", "SAELens"], ["ours, 1,024", "ours, 2,048"]],
        "contestant",
        ("us_per_row", "rows_per_second", "per_ours", "peak_gib"),
        ("µs per row", "[GiB]"),
        stream.TINY,
        ("dictionary_learning", "SAELens"),
    ),
    "live": Expected(
        [["language model alone", *VARIANTS, "dictionary_learning", "SAELens"]],
        "contestant",
        ("tokens_per_second", "percent", "per_peer", "peak_gib"),
        ("tokens per second", "% of the language model alone", "[GiB]"),
        live.TINY,
        ("dictionary_learning", "SAELens"),
        VARIANTS,
    ),
    "growth": Expected(
        [[axis for axis in growth.AXES.values() for _ in range(2)]],
        "axis",
        ("ms", "peak_mib"),
        ("ms per step", "[MiB]"),
        growth.TINY,
    ),
    "large": Expected(
        [VARIANTS],
        "contestant",
        ("seconds", "peak_gib", "state_gib"),
        ("seconds per step", "[GiB]"),
        large.TINY,
    ),
    "operators": Expected(
        [],
        "operator",
        ("self_ms", "percent", "calls"),
        ("[ms per step]", "%"),
        operators.TINY,
    ),
}


@pytest.fixture(scope="module", params=EXPECTED)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Expected, Any, str]:
    """What one benchmark wrote where no peer is installed: the expectation, the JSON, the page."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PEERS_PYTHON", str(folder / "no" / "python"))
        import_module(f"benchmarks.{request.param}").main(["--tiny", "--out", str(folder), "--threads", "1"])
    (page,) = folder.glob(f"{request.param}_????-??-??.md")
    return EXPECTED[request.param], json.loads(page.with_suffix(".json").read_text()), page.read_text()


def test_it_says_who_was_measured_and_who_was_not(finished: tuple[Expected, Any, str]) -> None:
    expected, content, _ = finished
    if expected.key == "operator":
        assert [table["title"].split(":")[0] for table in content["tables"]] == VARIANTS
    for table, names in zip(content["tables"], expected.names, strict=False):
        assert [row[expected.key] for row in table["rows"]] == names
        for row in table["rows"]:
            assert row["status"] == (SKIPPED if row[expected.key] in expected.absent else "ok")


def test_what_was_measured_is_positive(finished: tuple[Expected, Any, str]) -> None:
    expected, content, _ = finished
    rows = [row for table in content["tables"] for row in table["rows"] if expected.key in row and "cost" not in row]
    measured = [row for row in rows if row.get("status", "ok") == "ok"]
    assert measured
    for row in measured:
        assert all(row[key] > 0 for key in expected.positive), row
    assert all(row[key] is None for row in rows if row not in measured for key in expected.positive)


def test_ours_learn_while_they_are_measured(finished: tuple[Expected, Any, str]) -> None:
    expected, content, _ = finished
    rows = [row for table in content["tables"] for row in table["rows"] if row.get("loss_ratio") is not None]
    assert [row["contestant"] for row in rows] == expected.learn
    assert all(row["loss_ratio"] < 1 for row in rows)


def test_the_record_is_whole(finished: tuple[Expected, Any, str]) -> None:
    expected, content, page = finished
    assert content["settings"].items() >= {**expected.settings, "threads": 1}.items()
    assert content["hardware"]["cores"] >= 1
    assert content["hardware"]["cpu"] in page
    ours = content["environments"]["ours"]
    assert ours["versions"]["torch"] == torch.__version__
    assert {"vsae_lightning", "lightning", "transformer-lens"} <= set(ours["versions"])
    assert ours["threads"] == 1
    assert all(unit in page for unit in expected.units)
    assert all(f"{name} {value}" in page for name, value in expected.settings.items())


def test_page_and_record_agree(finished: tuple[Expected, Any, str]) -> None:
    _, content, page = finished
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("|")]
    for table in content["tables"]:
        assert lines.pop(0) == list(table["columns"].values())
        assert set(lines.pop(0)) == {"---"}
        for row in table["rows"]:
            for shown, key in zip(lines.pop(0), table["columns"], strict=True):
                assert same(shown, row[key]), (key, shown, row[key])
    assert not lines


def same(shown: str, value: Any) -> bool:
    if value is None:
        return shown == "–"
    if isinstance(value, str):
        return shown == value
    return math.isclose(float(shown.replace(",", "")), value, rel_tol=0.006)


def test_a_contestant_has_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**step.DEFAULTS, **step.TINY, **step.sized(256), "threads": 1}
    settings["rounds"] = 2
    monkeypatch.setenv("PEERS_PYTHON", sys.executable)
    contestants = [
        Contestant("measured", "step_floor", {"products": 1, "noise": False}),
        Contestant("wrong", "step_floor", {"products": "two", "noise": False}),
        Contestant("absent", "step_sparsify", peer=True),
    ]
    measured, wrong, absent = contest(contestants, settings)
    assert len(measured.rounds) == 2
    assert measured.best("ms") == min(found["ms"] for found in measured.rounds) > 0
    assert measured.rounds[0]["environment"]["threads"] == 1
    assert wrong.status.startswith("failed: TypeError")
    assert absent.status == SKIPPED


def test_the_memory_of_a_step_is_what_it_takes_beyond_parameters_gradients_and_adam() -> None:
    weight = torch.nn.Parameter(torch.zeros(2**24))
    settings = {"warmup": 1, "steps": 2, "batch": 2**12, "d_sae": 2**13}

    def take(index: int) -> float:
        weight.grad = torch.ones_like(weight)  # one gradient, which does not count
        unit = torch.ones(2**12, 2**13)
        weight.grad = None
        return float(unit[0, 0])

    measured = run(take, StepRecorder(settings, [weight]))
    assert measured["step_units"] == pytest.approx(1, abs=0.02)
    assert measured["state_bytes"] == 4 * 4 * 2**24
    assert len(measured["step_ms"]) == 2


def test_as_many_rows_are_brought_in_as_are_served() -> None:
    settings = {"buffer": 320, "batch": 20, "passes": 2}
    assert whole_buffers(settings) == {**settings, "warmup": 16, "steps": 32}
    assert whole_buffers(settings, refill_every=9)["steps"] == 36


def test_exponents_are_slopes_in_log_log() -> None:
    sizes = [1, 10, 100]
    rows = [{"axis": "k", "size": size, "ms": 3 * size**1.5, "step_mib": 7.0, "peak_mib": None} for size in sizes]
    found = {row["cost"]: row["exponent"] for row in growth.exponents(rows)}
    assert found == pytest.approx({"ms per step": 1.5, "memory of the step [MiB]": 0}, abs=1e-9)

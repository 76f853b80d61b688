"""Good files changed at random: every reader takes them or refuses them in words. `make soak` does this for longer."""

from pathlib import Path

import pytest

from canary import watching
from fuzzing import Target, fuzz, make_targets

NAMES = [
    "config.yaml",
    "fit.json",
    "checkpoint",
    "autoencoder.json",
    "autoencoder.safetensors",
    "cfg.json of SAELens",
    "weights of SAELens",
    "store.json",
    "tokens",
    "index of latents",
    "latents",
    "a.jsonl",
    "a.jsonl.zst",
    "a.jsonl.gz",
    "a.parquet",
    "events",
]


@pytest.fixture(scope="module")
def targets(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return make_targets(tmp_path_factory.mktemp("fuzz"), run)


def test_every_kind_of_file_is_changed(targets: dict[str, Target]) -> None:
    assert list(targets) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_file_is_taken_or_refused(name: str, targets: dict[str, Target]) -> None:
    targets[name].read()  # as it is, it is good
    with watching() as log:
        outcomes = fuzz(targets[name], seed=0, times=150)
    assert outcomes.total() == 150
    assert not log.started
    assert not log.connected

"""The study of dispersion: its commands, and its table."""

import argparse
from pathlib import Path

from benchmarks import dispersion


def test_a_run_is_that_of_its_arm_and_seed() -> None:
    command = dispersion.fit("vsae", 2, argparse.Namespace(steps=30, accelerator="gpu"))
    assert command[:3] == ["fit", "--config", str(dispersion.CONFIGS / "topk_vsae.yaml")]
    chosen = dict(zip(command[3::2], command[4::2], strict=True))
    assert chosen == {
        "--model.seed": "2",
        "--checkpoint.every_n_steps": "30",
        "--trainer.accelerator": "gpu",
        "--trainer.max_steps": "30",
        "--trainer.val_check_interval": "30",
    }


def test_an_evaluation_is_against_the_other_seeds() -> None:
    runs = {("topk", seed): Path(f"/runs/{seed}") for seed in dispersion.SEEDS}
    command = dispersion.evaluation("topk", 1, runs, argparse.Namespace(accelerator="cpu"))
    assert command[-1] == '["/runs/0/lightning_logs/version_0", "/runs/2/lightning_logs/version_0"]'


def test_the_table_has_means_and_standard_deviations() -> None:
    """Of 1, 2 and 3: 2 and 1."""
    seeds = [dict.fromkeys(dispersion.COLUMNS, float(value)) for value in (1, 2, 3)]
    head, _, names, _, row = dispersion.report({"tokens": 2048, "device": "a GPU"}, {"topk": seeds}).splitlines()
    assert head == "# Dispersion of features, 2,048 tokens of the bundled model, a GPU"
    assert names.count("|") == row.count("|") == len(dispersion.COLUMNS) + 2
    assert row.split(" | ")[1] == "2.0000 ± 1.0000"

"""What an ensemble of eight saves: one run of eight members against eight runs of one, the same steps each.

    python benchmarks/ensemble.py

The paper's eight arms (configs/paper/bundled/ensemble.yaml) on the bundled model, over one block of the stream each,
so that every run has its whole share of the language model. Times are those of training alone, without
start-up and validation. Writes `benchmarks/ensemble_DATE.json`; what counts are the ratios, all of one call.
"""

import os
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

import vsae_lightning as vl
from vsae_lightning.files import write_json
from vsae_lightning.modules.members import MembersModule

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "paper" / "bundled" / "ensemble.yaml"
# The classes that the config names in short; importing them makes them known to the parser.
CLASSES = (vl.SAE, vl.VSAE, vl.TopK, vl.StandardNormal, vl.WarmupDecay, vl.BundledText)
SEQUENCES, STEPS = 256, 169  # a block has 256 * 127 rows: 169 steps of 192


class Clock(Callback):
    """Seconds between the start and the end of training."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self.start


def main() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    arms = config["model"]["init_args"]["members"]
    data = config["data"]["init_args"] | {"block_sequences": SEQUENCES}
    measure({"warm": next(iter(arms.values()))}, data)
    together, language_model = measure(arms, data)
    alone = {name: measure({name: arm}, data) for name, arm in arms.items()}
    steps = {name: total - share for name, (total, share) in alone.items()}
    separate = sum(total for total, _ in alone.values())
    one_pass_and_steps = language_model + sum(steps.values())
    result = {
        "ensemble_seconds": together,
        "separate_seconds": separate,
        "one_pass_and_eight_steps_seconds": one_pass_and_steps,
        "ensemble_over_separate": together / separate,
        "ensemble_over_one_pass_and_eight_steps": together / one_pass_and_steps,
        "steps": STEPS,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "torch": str(torch.__version__),
    }
    write_json(ROOT / "benchmarks" / f"ensemble_{date.today()}.json", result)
    Console().print(result)


def measure(arms: dict[str, Any], data: dict[str, Any]) -> tuple[float, float]:
    """(seconds of training, seconds of them in the language model) of an ensemble of `arms`."""
    clock = Clock()
    trainer = Trainer(
        max_steps=STEPS,
        gradient_clip_val=1.0,
        accelerator="cpu",
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
    )
    module, datamodule = build(arms, data)
    trainer.fit(module, datamodule)
    assert datamodule.stream is not None
    # The first block is filled for the input statistics, before training starts.
    return clock.seconds + datamodule.stream.language_model_seconds, datamodule.stream.language_model_seconds


def build(arms: dict[str, Any], data: dict[str, Any]) -> tuple[MembersModule, vl.ActivationDataModule]:
    parser = ArgumentParser()
    parser.add_class_arguments(vl.Ensemble, "model")
    parser.add_class_arguments(vl.ActivationDataModule, "data")
    parsed = parser.parse_object({"model": {"d_in": 256, "members": arms}, "data": data})
    built = parser.instantiate_classes(parsed)
    return built.model, built.data


if __name__ == "__main__":
    main()

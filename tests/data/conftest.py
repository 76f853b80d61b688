"""Data modules and trainers on the tiny model, for the tests of the data module; and a dictionary that is known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from known_dictionary import ROWS, STRUCTURED
from recorder import CONTEXT, HOOK, DataModuleMaker, Recorder, TrainerMaker
from vsae_lightning.data.datamodule import ActivationDataModule
from vsae_lightning.data.ground_truth import KnownDictionary
from vsae_lightning.data.synthetic import SyntheticDataModule
from vsae_lightning.data.text import TextFiles


@pytest.fixture(scope="module")
def data_module(
    tiny_model: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., ActivationDataModule]:
    """Makes data modules whose blocks of 16 sequences are 240 rows: ten steps of 24, without remainder."""
    cache = tmp_path_factory.mktemp("tokens")

    def make(model_name: Path | str = tiny_model, hook_name: str = HOOK, **options: Any) -> ActivationDataModule:
        defaults: dict[str, Any] = {
            "text": TextFiles(str(corpus), separator="\n\n", held_out_fraction=0.2),
            "context_length": CONTEXT,
            "batch_size": 24,
            "block_sequences": 16,
            "lanes": 4,
            "lm_batch_sequences": 3,
            "validation_tokens": 5 * CONTEXT + 3,
            "cache_dir": str(cache),
            "seed": 1,
        }
        return ActivationDataModule(str(model_name), hook_name, **(defaults | options))

    return make


@pytest.fixture
def trainer(tmp_path: Path) -> TrainerMaker:
    def make(**options: Any) -> Trainer:
        defaults: dict[str, Any] = {
            "max_steps": 3,
            "limit_val_batches": 0,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": tmp_path,
        }
        return Trainer(**(defaults | options))

    return make


@pytest.fixture(scope="module")
def ten_steps(data_module: DataModuleMaker, tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    """A run of one block that nothing interrupted."""
    recorder = Recorder()
    fit = Trainer(
        max_steps=10,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path_factory.mktemp("run"),
    )
    fit.fit(recorder, datamodule=data_module())
    return recorder


@pytest.fixture(scope="session")
def truth() -> KnownDictionary:
    return SyntheticDataModule(**STRUCTURED).truth


@pytest.fixture(scope="session")
def drawn(truth: KnownDictionary) -> tuple[Tensor, Tensor]:
    return truth.draw(ROWS, torch.Generator().manual_seed(0))

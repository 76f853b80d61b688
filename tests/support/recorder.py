"""A module that learns nothing and keeps what the data module hands it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from transformers import AutoModelForCausalLM

from vsae_lightning.batches import ActivationBatch, HeldOutBatch
from vsae_lightning.data.datamodule import ActivationDataModule

CONTEXT = 16
HOOK = "blocks.1.hook_resid_post"

DataModuleMaker = Callable[..., ActivationDataModule]
TrainerMaker = Callable[..., Trainer]


class Recorder(LightningModule):
    """Learns nothing; keeps all that the data module hands it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.batches: list[ActivationBatch] = []
        self.positions: list[int] = []
        self.held_out: dict[str, list[HeldOutBatch]] = {"validation": [], "test": [], "predict": []}
        self.mean: Tensor | None = None
        self.scale: Tensor | None = None

    def on_fit_start(self) -> None:
        self.mean, self.scale, _ = self._data().input_statistics()

    def training_step(self, batch: ActivationBatch, batch_idx: int) -> Tensor:
        self.batches.append(batch)
        return self.weight.square()

    def on_train_batch_end(self, *args: Any) -> None:
        self.positions.append(self._data().state_dict()["steps"])

    def validation_step(self, batch: HeldOutBatch, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            self.held_out["validation"].append(batch)

    def test_step(self, batch: HeldOutBatch, batch_idx: int) -> None:
        self.held_out["test"].append(batch)

    def predict_step(self, batch: HeldOutBatch, batch_idx: int) -> None:
        self.held_out["predict"].append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    @property
    def steps(self) -> list[int]:
        return [batch.step for batch in self.batches]

    def _data(self) -> ActivationDataModule:
        data = getattr(self.trainer, "datamodule", None)  # Lightning sets it without declaring it
        assert isinstance(data, ActivationDataModule)
        return data


class FailsAtStep3(Recorder):
    def training_step(self, batch: ActivationBatch, batch_idx: int) -> Tensor:
        if batch.step == 3:
            raise RuntimeError("out of memory")
        return super().training_step(batch, batch_idx)


def tokens_of(data: ActivationDataModule) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    assert data.tokens is not None
    return data.tokens.train, data.tokens.held_out


def plain_activations(folder: Path, tokens: np.ndarray[Any, Any]) -> Tensor:
    """The output of the second block of the plain Hugging Face model."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        hidden_states = model(torch.from_numpy(tokens.astype(np.int64)), output_hidden_states=True).hidden_states
    states: Tensor = hidden_states[2]
    return states

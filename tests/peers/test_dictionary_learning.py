"""TopK and BatchTopK are dictionary_learning's: the same weights and batches give the same losses over 50 steps."""

import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

import vsae_lightning as vl
from vsae_lightning.batches import ActivationBatch

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("PEERS_PYTHON", ROOT / ".venv-peers" / "bin" / "python"))
STEPS, D_IN, D_SAE, K = 50, 24, 400, 8
LR, WARMUP, DECAY_START, DEAD_AFTER = 3e-3, 5, 40, 300


SPARSIFIERS = {"TopK": vl.TopK, "BatchTopK": vl.BatchTopK}


@pytest.fixture(scope="module", params=SPARSIFIERS)
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if not PYTHON.exists():
        pytest.skip("the peers' environment is not there: make peers")
    path = tmp_path_factory.mktemp("peer") / "run.pt"
    script = Path(__file__).with_name("train_dictionary_learning.py")
    subprocess.run([PYTHON, script, request.param, path], check=True)
    return {"kind": request.param, **torch.load(path)}


def peer_schedule(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
    """Theirs: step / warm-up, constant, linear to zero from DECAY_START."""

    def factor(step: int) -> float:
        if step < WARMUP:
            return step / WARMUP
        return (STEPS - step) / (STEPS - DECAY_START) if step >= DECAY_START else 1.0

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


class Losses(vl.SAE):
    """An SAE that keeps what it minimised."""

    def training_step(self, batch: ActivationBatch, batch_idx: int) -> dict[str, torch.Tensor]:
        outputs = super().training_step(batch, batch_idx)
        self.losses = [*getattr(self, "losses", []), outputs["loss"].item()]
        return outputs


class Batches:
    def __init__(self, activations: torch.Tensor) -> None:
        self.activations = activations

    def __iter__(self) -> Iterator[ActivationBatch]:
        return (ActivationBatch(batch, step, (0,), step * len(batch)) for step, batch in enumerate(self.activations))


@pytest.mark.peer
def test_fifty_steps_are_the_peers(peer: Any, quiet_trainer: Callable[[int], Trainer]) -> None:
    module = Losses(
        D_IN,
        D_SAE,
        SPARSIFIERS[peer["kind"]](K),
        aux_weight=1 / 32,
        dead_after_tokens=DEAD_AFTER,
        optimizer=partial(torch.optim.Adam, lr=LR, betas=(0.9, 0.999)),
        scheduler=peer_schedule,
    )
    before = peer["before"]
    module.autoencoder.load_state_dict(
        {
            "W_enc": before["encoder.weight"].T,
            "b_enc": before["encoder.bias"],
            "W_dec": before["decoder.weight"].T,
            "b_dec": before["b_dec"],
            **{name: value for name, value in module.autoencoder.state_dict().items() if "threshold" in name},
        }
    )
    quiet_trainer(STEPS).fit(module, Batches(peer["batches"]))
    assert max(peer["dead"]) > 0, "AuxK must have fired in the comparison"
    torch.testing.assert_close(torch.tensor(module.losses), torch.tensor(peer["losses"]), rtol=1e-4, atol=1e-5)
    ours = module.autoencoder
    torch.testing.assert_close(ours.W_dec.data, peer["after"]["decoder.weight"].T, rtol=0, atol=2e-4)
    torch.testing.assert_close(ours.W_enc.data, peer["after"]["encoder.weight"].T, rtol=0, atol=2e-4)
    torch.testing.assert_close(ours.b_dec.data, peer["after"]["b_dec"], rtol=0, atol=2e-4)

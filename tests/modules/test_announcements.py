"""What a run says before its first step."""

import logging
from collections.abc import Callable, Iterator

import pytest
import torch
from lightning.pytorch import Trainer

import vsae_lightning as vl
from vsae_lightning.batches import ActivationBatch
from vsae_lightning.modules.members import MembersModule

D_IN, D_SAE = 6, 64


class Rows:
    """One batch."""

    def __iter__(self) -> Iterator[ActivationBatch]:
        yield ActivationBatch(torch.randn(8, D_IN), 0, (0,), 0)


TOPK, FEW_OF_FEW = vl.TopK(3), vl.TopK(16)
SPARSE, DENSE = "Sparse products in C.", "Dense products: the loss needs all latents."
SAID: dict[str, tuple[Callable[[], MembersModule], list[str]]] = {
    "TopK": (lambda: vl.SAE(D_IN, D_SAE, TOPK), [SPARSE]),
    "many of few": (lambda: vl.SAE(D_IN, D_SAE, FEW_OF_FEW), ["Dense products: 16 of 64 latents are kept."]),
    "ReLU": (lambda: vl.SAE(D_IN, D_SAE, vl.ReLU(), sparsity_weight=0.1), [DENSE]),
    "gate KL": (lambda: vl.SAE(D_IN, D_SAE, TOPK, gate_kl_weight=0.1), [DENSE]),
    "KL on all, sigma a number": (lambda: vl.VSAE(D_IN, D_SAE, TOPK, sigma=0.1, kl_on="all"), [SPARSE]),
    "KL on all, sigma learned": (lambda: vl.VSAE(D_IN, D_SAE, TOPK, kl_on="all"), [DENSE]),
    "ensemble": (
        lambda: vl.Ensemble(D_IN, {"a": lambda d: vl.SAE(d, D_SAE, TOPK), "b": lambda d: vl.VSAE(d, D_SAE, TOPK)}),
        [f"a: {SPARSE}", f"b: {SPARSE}"],
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_a_run_says_by_which_products_it_trains(
    name: str, quiet_trainer: Callable[[int], Trainer], caplog: pytest.LogCaptureFixture
) -> None:
    make, said = SAID[name]
    module = make()
    with caplog.at_level(logging.INFO):
        quiet_trainer(1).fit(module, Rows())
    assert [message for message in caplog.messages if "products" in message] == said

"""A known dictionary is found again: the check on whole training that needs no language model."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from scipy.optimize import linear_sum_assignment

import vsae_lightning as vl
from vsae_lightning.autoencoders.geometry import random_directions
from vsae_lightning.batches import ActivationBatch

D_IN, FEATURES, LATENTS, ACTIVE, BATCH, STEPS = 32, 48, 64, 4, 512, 1000


class KnownDictionary:
    """Rows that are sums of a few of `FEATURES` known directions, each with its own strength."""

    def __init__(self) -> None:
        self.directions = random_directions(FEATURES, D_IN, 1.0, seed=9)

    def __iter__(self) -> Iterator[ActivationBatch]:
        generator = torch.Generator().manual_seed(1)
        for step in range(STEPS):
            chosen = torch.rand(BATCH, FEATURES, generator=generator).topk(ACTIVE).indices
            strength = torch.rand(BATCH, ACTIVE, generator=generator) + 0.5
            codes = torch.zeros(BATCH, FEATURES).scatter(1, chosen, strength)
            yield ActivationBatch(2 * codes @ self.directions, step, (0,), step * len(codes))


@pytest.mark.parametrize(("cls", "options"), [(vl.SAE, {}), (vl.VSAE, {"sigma": 0.1, "kl_weight": 0.001})])
def test_features_are_recovered(cls: Any, options: dict[str, float], quiet_trainer: Callable[[int], Trainer]) -> None:
    module = cls(
        D_IN,
        LATENTS,
        vl.TopK(ACTIVE),
        bias_init="zero",
        dead_after_tokens=20_000,
        seed=0,
        optimizer=partial(torch.optim.Adam, lr=3e-3),
        scheduler=partial(vl.WarmupDecay, decay_fraction=0.3),
        **options,
    )
    data = KnownDictionary()
    quiet_trainer(STEPS).fit(module, data)
    cosine = (data.directions @ module.autoencoder.W_dec.data.T).abs()
    rows, columns = linear_sum_assignment(-cosine.numpy())
    matched = cosine[rows, columns]
    assert matched.mean() > 0.95
    assert (matched > 0.9).float().mean() > 0.9

"""How much of decoders that are, and are not, sums of few directions a meta-SAE explains."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.topk import TopK
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.evaluation import untracked
from vsae_lightning.evaluation.meta_sae import MetaSAE
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.provenance import Provenance

QUICK: dict[str, Any] = {"train_steps": 300, "train_batch_size": 128, "learning_rate": 5e-3, "autocast": False}


def subject(rows: Tensor) -> Subject:
    autoencoder = SparseAutoencoder(rows.shape[1], len(rows), TopK(1), decoder="free")
    autoencoder.W_dec.data = rows
    return Subject(
        "built", Path(), autoencoder.requires_grad_(False), Provenance("bundled", "blocks.2.hook_resid_post")
    )


def explained(rows: Tensor, **settings: Any) -> float:
    value = MetaSAE(**{**QUICK, **settings}).scores(subject(rows), untracked).headline.popitem()[1]
    assert value is not None
    return value


def test_sums_of_few_directions_are_explained_and_random_rows_are_not() -> None:
    draws = torch.Generator().manual_seed(0)
    pairs = torch.stack([torch.randperm(16, generator=draws)[:2] for _ in range(200)])
    sums = F.normalize(F.one_hot(pairs, 24).sum(1).float(), dim=-1)  # of two of 16 directions
    rows = F.normalize(torch.randn(200, 24, generator=draws), dim=-1)
    assert explained(sums) > 0.95
    assert explained(rows) < 0.85


def test_equal_rows_have_no_variance_to_explain() -> None:
    assert explained(torch.ones(20, 4), train_steps=1) == 0.0


def test_untrained_it_is_the_projection_on_its_first_directions() -> None:
    """Two rows that compete for one place each: worked out from the initial weights."""
    rows = F.normalize(torch.randn(2, 6, generator=torch.Generator().manual_seed(1)), dim=-1)
    start = torch.nn.init.kaiming_uniform_(torch.empty(1, 6), generator=torch.Generator().manual_seed(42))
    direction = 0.1 * F.normalize(start, dim=-1)
    left = rows - (rows @ direction.T).relu() @ direction
    expected = 1 - float(left.square().sum() / (rows - rows.mean(0)).square().sum())
    assert explained(rows, train_steps=0, k=1) == pytest.approx(expected, abs=1e-6)


def test_norms_of_rows_count_only_where_rows_are_left_as_they_are() -> None:
    rows = F.normalize(torch.randn(60, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    alone = explained(rows, train_steps=40)
    assert explained(30 * rows, train_steps=40) == pytest.approx(alone, abs=1e-4)
    assert explained(rows, train_steps=40, unit_rows=False) == pytest.approx(alone, abs=1e-4)
    assert abs(explained(30 * rows, train_steps=40, unit_rows=False) - alone) > 0.05


@pytest.mark.parametrize("setting", [{"k": 0}, {"width_ratio": 0.0}, {"train_steps": 2001}, {"eval_batch_size": 0}])
def test_settings_that_cannot_be(setting: dict[str, Any]) -> None:
    name, value = next(iter(setting.items()))
    with pytest.raises(InputError, match=f"meta.{name} is {value}"):
        MetaSAE(**setting).scores(subject(torch.ones(8, 4)), untracked)

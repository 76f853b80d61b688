"""Tokens since each latent fired, by hand."""

import torch

from vsae_lightning.modules.usage import FeatureUsage


def test_tokens_since_fired_by_hand() -> None:
    usage = FeatureUsage(3)
    usage.update(torch.tensor([1, 0, 0]), tokens=10)
    usage.update(torch.tensor([0, 4, 0]), tokens=10)
    assert usage.tokens_since_fired.tolist() == [10, 0, 20]
    assert usage.dead(after_tokens=20).tolist() == [False, False, True]
    assert usage.dead(after_tokens=10).tolist() == [True, False, True]


def test_state_survives_a_checkpoint() -> None:
    usage, restored = FeatureUsage(2), FeatureUsage(2)
    usage.update(torch.tensor([0, 1]), tokens=7)
    restored.load_state_dict(usage.state_dict())
    assert restored.tokens_since_fired.tolist() == [7, 0]


def test_a_restarted_latent_counts_from_anew() -> None:
    usage = FeatureUsage(3)
    usage.update(torch.tensor([1, 0, 0]), tokens=10)
    usage.restart(torch.tensor([False, True, False]))
    assert usage.tokens_since_fired.tolist() == [0, 0, 10]

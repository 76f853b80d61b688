"""Tokens since each latent fired, and since it first had, by hand."""

import pytest
import torch

from vsae_lightning.modules.usage import NOT_KNOWN, NOT_YET, FeatureUsage


def test_tokens_since_fired_by_hand() -> None:
    usage = FeatureUsage(3)
    usage.update(torch.tensor([1, 0, 0]), tokens=10, tokens_seen=10)
    usage.update(torch.tensor([0, 4, 0]), tokens=10, tokens_seen=20)
    assert usage.tokens_since_fired.tolist() == [10, 0, 20]
    assert usage.dead(after_tokens=20).tolist() == [False, False, True]
    assert usage.dead(after_tokens=10).tolist() == [True, False, True]


def test_first_fired_by_hand() -> None:
    """Tokens are those at the end of the batch; a later firing changes nothing."""
    usage = FeatureUsage(4)
    assert usage.first_fired.tolist() == [NOT_YET] * 4
    usage.update(torch.tensor([1, 0, 0, 0]), tokens=10, tokens_seen=10)
    usage.update(torch.tensor([3, 2, 0, 0]), tokens=10, tokens_seen=20)
    usage.update(torch.tensor([0, 1, 1, 0]), tokens=5, tokens_seen=25)
    assert usage.first_fired.tolist() == [10, 20, 25, NOT_YET]


def test_state_survives_a_checkpoint() -> None:
    usage, restored = FeatureUsage(2), FeatureUsage(2)
    usage.update(torch.tensor([0, 1]), tokens=7, tokens_seen=7)
    restored.load_state_dict(usage.state_dict())
    assert restored.tokens_since_fired.tolist() == [7, 0]
    assert restored.first_fired.tolist() == [NOT_YET, 7]


def test_a_restarted_latent_counts_from_anew() -> None:
    usage = FeatureUsage(3)
    usage.update(torch.tensor([1, 0, 0]), tokens=10, tokens_seen=10)
    usage.restart(torch.tensor([True, True, False]))
    assert usage.tokens_since_fired.tolist() == [0, 0, 10]
    assert usage.first_fired.tolist() == [NOT_YET] * 3
    usage.update(torch.tensor([1, 0, 0]), tokens=10, tokens_seen=20)
    assert usage.first_fired.tolist() == [20, NOT_YET, NOT_YET]


def test_of_an_older_checkpoint_it_stays_not_known_when_latents_first_fired() -> None:
    usage = torch.nn.ModuleDict({"usage": FeatureUsage(2)})
    usage.load_state_dict({"usage.tokens_since_fired": torch.tensor([0, 30])})
    member = usage["usage"]
    assert isinstance(member, FeatureUsage)
    member.update(torch.tensor([1, 1]), tokens=10, tokens_seen=40)
    assert member.first_fired.tolist() == [NOT_KNOWN, NOT_KNOWN]
    with pytest.raises(RuntimeError, match="tokens_since_fired"):
        usage.load_state_dict({})

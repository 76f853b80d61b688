"""Two tokens, two words: every number by hand."""

from math import log

import pytest
import torch

from vsae_lightning.metrics import LanguageModelLosses, Losses, cross_entropies, kl_divergences, recovered


def log_probs(*first_words: float) -> torch.Tensor:
    """One sequence over a vocabulary of two, by the probability of word 0 at each position."""
    return torch.tensor([[[p, 1 - p] for p in first_words]]).log()


def test_cross_entropy_is_of_the_next_token() -> None:
    found = cross_entropies(log_probs(0.25, 0.5, 0.1), torch.tensor([[1, 0, 1]]))
    assert found.tolist() == [pytest.approx([log(4), log(2)])]


def test_kl_is_from_the_clean_prediction() -> None:
    clean, other = log_probs(0.5, 0.25), log_probs(0.25, 0.25)
    found = kl_divergences(clean, other)[0]
    assert found.tolist() == pytest.approx([0.5 * log(0.5 / 0.25) + 0.5 * log(0.5 / 0.75), 0.0])


def test_means_are_over_positions_not_over_batches() -> None:
    losses = LanguageModelLosses()
    losses.update(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1.0]))
    losses.update(torch.tensor([7.0]), torch.tensor([2.0, 6.0]))
    assert [value.item() for value in losses.compute()] == [4.0, 3.0]


def test_sums_of_many_small_numbers_are_exact() -> None:
    losses = LanguageModelLosses()
    losses.update(torch.full((1,), 2.0**24), torch.zeros(1))
    for _ in range(64):
        losses.update(torch.ones(1), torch.zeros(1))
    assert losses.compute().cross_entropy * 65 == 2**24 + 64  # float32 would have lost them all


def test_scores_are_what_ablation_costs_and_the_splice_saves() -> None:
    clean, zero, mean, spliced = (
        Losses(*map(torch.tensor, pair)) for pair in ((2.0, 0.0), (6.0, 5.0), (4.0, 3.0), (3.0, 1.0))
    )
    assert {name: value.item() for name, value in recovered(clean, zero, mean, spliced).items()} == {
        "ce_loss_clean": 2.0,
        "ce_loss_zero_ablated": 6.0,
        "ce_loss_mean_ablated": 4.0,
        "ce_loss_spliced": 3.0,
        "ce_loss_score": 0.75,
        "ce_loss_score_mean_ablation": 0.5,
        "kl_zero_ablated": 5.0,
        "kl_mean_ablated": 3.0,
        "kl_spliced": 1.0,
        "kl_score": pytest.approx(0.8),
    }

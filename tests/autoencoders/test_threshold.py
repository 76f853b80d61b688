"""The threshold that a number of scores exceed, by hand."""

import pytest
import torch

import vsae_lightning as vl
from vsae_lightning.autoencoders.threshold import CountedThreshold, InferenceThreshold, exceeded_by

SCORES = torch.tensor([[9.0, 1.0, 4.0], [0.0, 7.0, -2.0]])  # in order: 9, 7, 4, 1, 0, -2


@pytest.mark.parametrize(("number", "threshold"), [(1, 8.0), (2, 5.5), (3, 2.5), (4, 0.5), (5, 0.0), (6, 0.0)])
def test_the_threshold_lies_midway_between_two_scores(number: int, threshold: float) -> None:
    assert exceeded_by([SCORES], number) == threshold


@pytest.mark.parametrize("rows_at_once", [1, 7, 100])
def test_parts_of_any_size_give_the_threshold_of_the_whole(rows_at_once: int) -> None:
    scores = torch.randn(100, 30, generator=torch.Generator().manual_seed(0))
    found = exceeded_by(scores.split(rows_at_once), 500)
    assert int((scores > found).sum()) == 500
    assert found == exceeded_by([scores], 500)


def test_calibrating_again_forgets_what_was_before() -> None:
    """So that it does not matter how often a run was stopped."""
    often, once = InferenceThreshold(), InferenceThreshold()
    assert often.value == -1
    for scores in (SCORES + 3, SCORES):
        often.calibrate([scores], 2, 1)
    once.calibrate([SCORES], 2, 1)
    assert often.value == once.value == 5.5


def test_scores_that_are_not_finite_change_nothing() -> None:
    threshold = InferenceThreshold()
    threshold.calibrate([SCORES], 2, 1)
    threshold.calibrate([torch.full((2, 3), torch.nan)], 2, 1)
    assert threshold.value == 5.5


def test_batch_topk_counts_the_rows_of_its_calibration() -> None:
    threshold = CountedThreshold()
    assert threshold.value == threshold.count == 0
    threshold.calibrate([SCORES], 2, 1)
    assert threshold.count == 2
    assert set(vl.BatchTopK(2).state_dict()) == {"threshold.value", "threshold.count"}  # as in older files


def test_sparsifiers_without_a_k_learn_no_threshold() -> None:
    for sparsifier in (vl.ReLU(), vl.Dense(), vl.JumpReLU(), vl.Gated()):
        assert not sparsifier.learns_threshold
        sparsifier.calibrate([SCORES], 2)
        assert not sparsifier.state_dict()

"""What a probe is trained on, and that it learns it."""

import torch

from vsae_lightning.evaluation.concept_probes import (
    Examples,
    ProbeTraining,
    accuracy,
    against_partner,
    against_rest,
    logits,
)

GROUPS = {name: torch.arange(6) + 6 * place for place, name in enumerate(("a", "b", "c", "d"))}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def of_label(examples: Examples, label: int) -> list[int]:
    return sorted(examples.rows[examples.labels == label].tolist())


def test_groups_are_paired_in_order() -> None:
    for name, partner in (("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")):
        examples = against_partner(GROUPS, name, generator())
        assert of_label(examples, 1) == GROUPS[name].tolist()
        assert of_label(examples, 0) == GROUPS[partner].tolist()


def test_the_rest_is_as_many_of_each_other_group() -> None:
    rng = generator()
    first, second = (against_rest(GROUPS, "b", rng) for _ in range(2))
    assert of_label(first, 1) == GROUPS["b"].tolist()
    groups = [row // 6 for row in of_label(first, 0)]
    assert groups == [0, 0, 2, 2, 3, 3]
    assert of_label(first, 0) != of_label(second, 0)


def test_a_probe_separates_what_can_be_separated() -> None:
    rng = generator()
    y = torch.tensor([0, 1] * 20)
    x = torch.randn(40, 3, generator=rng)
    x[:, 1] = (2 * y - 1) * 2.0
    probe = ProbeTraining(16, 40, 0.1, 1e-3, 40).fit(x, y, x, y, rng)
    assert accuracy(logits(probe, x), y) == 1
    assert probe.weight[0, 1] > probe.weight[0, [0, 2]].abs().max()


def test_a_logit_of_zero_says_no() -> None:
    assert accuracy(torch.tensor([0.0, 0.0, 1.0, -1.0]), torch.tensor([0, 1, 1, 1])) == 0.5

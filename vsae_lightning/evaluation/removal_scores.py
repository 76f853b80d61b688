"""SCR and TPP from accuracies of probes (SAEBench evals/scr_and_tpp/main.py)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from vsae_lightning.evaluation.concept_groups import ATTRIBUTE, BIASED, CONCEPT

# Of a probe on the examples of a group, by (probe, group).
Accuracies = dict[tuple[str, str], float]
# SAEBench takes no less than this to be a difference between two probes.
LEAST_DIFFERENCE = 0.001


class Measured(NamedTuple):
    """Accuracies on test texts.

    Attributes:
        clean: With the activations as they are.
        ablated: By the probe whose latents were ablated, and how many were.
    """

    clean: Accuracies
    ablated: dict[str, dict[int, Accuracies]]


def scr_metrics(measured: Measured) -> dict[str, float]:
    """For each n the score in both directions, and of these that in which the biased probe is worse before.

    Where it is equally bad in both, there is no `scr_metric`.
    """
    before = {group: measured.clean[BIASED, group] for group in (CONCEPT, ATTRIBUTE)}
    metrics = {}
    for direction, removed, asked in ((1, ATTRIBUTE, CONCEPT), (2, CONCEPT, ATTRIBUTE)):
        for n, after in measured.ablated[removed].items():
            score = scr_score(measured.clean[asked, asked], before[asked], after[BIASED, asked])
            metrics[f"scr_dir{direction}_threshold_{n}"] = score
            if before[asked] < before[removed]:
                metrics[f"scr_metric_threshold_{n}"] = score
    return metrics


def scr_score(clean: float, before: float, after: float) -> float:
    """(after - before) / (clean - before), the part of what was lost that is won back; 0 where nothing was lost.

    Args:
        clean: Accuracy of a probe that was trained without the correlation.
        before: Of the one that was trained with it.
        after: Of the same, with latents ablated.
    """
    lost = clean - before
    return 0.0 if lost < LEAST_DIFFERENCE else (after - before) / lost


def tpp_metrics(measured: Measured) -> dict[str, dict[str, float]]:
    """For each class and n: what its probe loses, what the others lose in the mean, and the difference of the two."""
    classes = list(measured.ablated)
    metrics: dict[str, dict[str, float]] = {name: {} for name in classes}
    for ablated, by_n in measured.ablated.items():
        for n, after in by_n.items():
            lost = {name: measured.clean[name, name] - after[name, name] for name in classes}
            intended = lost.pop(ablated)
            unintended = sum(lost.values()) / len(lost)
            metrics[ablated] |= {
                f"tpp_threshold_{n}_total_metric": intended - unintended,
                f"tpp_threshold_{n}_intended_diff_only": intended,
                f"tpp_threshold_{n}_unintended_diff_only": unintended,
            }
    return metrics


def averages(several: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric, over those that have it."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for metrics in several:
        for name, value in metrics.items():
            values[name].append(value)
    return {name: sum(found) / len(found) for name, found in values.items()}

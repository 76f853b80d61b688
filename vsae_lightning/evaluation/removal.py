"""Concept removal: spurious correlation removal (SCR) and targeted probe perturbation (TPP)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Generator, Tensor

from vsae_lightning.evaluation.concept_groups import Concepts, Table, class_concepts, correlated_concepts
from vsae_lightning.evaluation.concept_probes import Examples, Groups, against_partner, against_rest
from vsae_lightning.evaluation.concept_removal import Removal
from vsae_lightning.evaluation.concept_tables import class_tables, correlated_tables
from vsae_lightning.evaluation.removal_scores import Measured, averages, scr_metrics, tpp_metrics
from vsae_lightning.evaluation.subject import Subject


@dataclass(frozen=True)
class SCR(Removal):
    """Spurious correlation removal (SAEBench, arXiv 2503.09532; Marks et al. 2024, arXiv 2403.19647, SHIFT).

    A probe is trained where an attribute is perfectly correlated with a concept. Ablating the latents of the
    attribute shall bring it nearer to a probe of the concept, on texts where both attributes occur:
    (A_ablated - A) / (A_concept - A), with A its accuracy; 1 is complete removal, 0 none. Direction 1 ablates the
    attribute and asks for the concept, direction 2 the other way; the metric is of the direction in which the probe
    is the worse before.

    The defaults take a few minutes on two cores with a model of 135 M parameters; SAEBench's sizes are
    train_set_size 4000 and test_set_size 1000.
    """

    type_id: ClassVar[str] = "scr"
    category: ClassVar[str] = "scr_metrics"

    def settings(self, subject: Subject) -> dict[str, Any]:
        pairs = {table.name: table.pairs for table in self.tables()}
        return {**super().settings(subject), "column1_vals_lookup": pairs}

    def tables(self) -> list[Table]:
        return correlated_tables(self.data, self.train_set_size / (self.train_set_size + self.test_set_size))

    def concepts(self, table: Table) -> list[Concepts]:
        return correlated_concepts(table, self.train_set_size, self.test_set_size, self.random_seed)

    def examples(self, groups: Groups, name: str, generator: Generator) -> Examples:
        return against_partner(groups, name, generator)

    def tasks(self, groups: Groups) -> list[str]:
        return list(groups)[::2]

    def readings(self, tasks: list[str]) -> list[tuple[str, list[str]]]:
        crossed = [(group, [task for task in tasks if task != group]) for group in tasks]
        return [(group, [group]) for group in tasks] + crossed

    def effects(self, difference: Float[Tensor, " d_sae"], seen: Float[Tensor, " d_sae"]) -> Float[Tensor, " d_sae"]:
        return (difference * seen).abs()

    def metrics_of(self, measured: Measured) -> dict[str, float]:
        return scr_metrics(measured)

    def metric_names(self) -> list[str]:
        return [f"scr_{kind}_threshold_{n}" for n in self.n_values for kind in ("dir1", "metric", "dir2")]

    def shown(self) -> list[str]:
        return [f"scr_metric_threshold_{n}" for n in self.n_values]


@dataclass(frozen=True)
class TPP(Removal):
    """Targeted probe perturbation (SAEBench, arXiv 2503.09532).

    Ablating the latents of a class shall lower the accuracy of its probe (intended) and of no other (unintended, the
    mean over the others); the total is their difference, the mean over classes.

    The defaults take a few minutes on two cores with a model of 135 M parameters; SAEBench's sizes are
    train_set_size 4000 and test_set_size 1000.
    """

    train_set_size: int = 400
    test_set_size: int = 200

    type_id: ClassVar[str] = "tpp"
    category: ClassVar[str] = "tpp_metrics"

    def tables(self) -> list[Table]:
        return class_tables(self.data, self.train_set_size / (self.train_set_size + self.test_set_size))

    def concepts(self, table: Table) -> list[Concepts]:
        return class_concepts(table, self.train_set_size, self.test_set_size, self.random_seed)

    def examples(self, groups: Groups, name: str, generator: Generator) -> Examples:
        return against_rest(groups, name, generator)

    def tasks(self, groups: Groups) -> list[str]:
        return list(groups)

    def readings(self, tasks: list[str]) -> list[tuple[str, list[str]]]:
        return [(group, [group]) for group in tasks]

    def effects(self, difference: Float[Tensor, " d_sae"], seen: Float[Tensor, " d_sae"]) -> Float[Tensor, " d_sae"]:
        return difference.clamp(min=0) * seen

    def metrics_of(self, measured: Measured) -> dict[str, float]:
        return averages(tpp_metrics(measured).values())

    def metric_names(self) -> list[str]:
        kinds = ("total_metric", "intended_diff_only", "unintended_diff_only")
        return [f"tpp_threshold_{n}_{kind}" for n in self.n_values for kind in kinds]

    def shown(self) -> list[str]:
        return self.metric_names()

    def per_class(self, measured: Mapping[str, Measured]) -> dict[str, Any]:
        return {"per_class": {name: tpp_metrics(found) for name, found in measured.items()}}

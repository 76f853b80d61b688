"""What SCR and TPP share: the effect of latents on probes of mean activations, and probes with latents ablated."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vsae_lightning.errors import InputError, require_at_least
from vsae_lightning.evaluation.ablation import mean_difference, readout, strongest
from vsae_lightning.evaluation.concept_groups import Concepts, Table, TextGroups
from vsae_lightning.evaluation.concept_probes import Examples, Groups, ProbeTraining, accuracy
from vsae_lightning.evaluation.evaluation import Evaluation, Scores, Track
from vsae_lightning.evaluation.removal_scores import Accuracies, Measured, averages
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.evaluation.text_means import TextMeans, text_means

N_VALUES = (2, 5, 10, 20, 50, 100, 500)


class Encoded(NamedTuple):
    """Texts, and the rows of those in each group."""

    texts: TextMeans
    groups: Groups


@dataclass(frozen=True)
class Removal(Evaluation):
    """What SCR and TPP share: probes on mean activations, the effect of every latent on each, and ablations.

    A latent's effect on a probe is the difference of its mean between the probe's two groups of training texts,
    times w . W_dec[j]. A latent is ablated by taking f_j(x) W_dec[j] from the activation of every token.

    Attributes:
        data: A folder or a file of bias_in_bios or of Amazon reviews, with the columns that they have on the hub;
            "sae-probes"; None: the hub where it can be reached, else sae-probes.
        train_set_size: Texts to train each probe on; SAEBench has 4000.
        test_set_size: Texts to test each probe on; SAEBench has 1000.
        context_length: Tokens of a text that are read, BOS included.
        n_values: How many latents are ablated.
        random_seed: Of the choice of texts and of the probes.
        probe_train_batch_size: Texts per step; it decides how much of a spurious correlation a probe learns.
        probe_epochs: Passes over the training texts.
        probe_lr: Learning rate of AdamW.
        probe_l1_penalty: Weight of the L1 norm of a probe.
        early_stopping_patience: Epochs without a better test accuracy that end training.
    """

    data: str | None = None
    train_set_size: int = 600
    test_set_size: int = 400
    context_length: int = 128
    n_values: tuple[int, ...] = N_VALUES
    random_seed: int = 42
    probe_train_batch_size: int = 16
    probe_epochs: int = 20
    probe_lr: float = 1e-3
    probe_l1_penalty: float = 1e-3
    early_stopping_patience: int = 20

    category: ClassVar[str]

    def settings(self, subject: Subject) -> dict[str, Any]:
        names = [table.name for table in self.tables()]
        return {**super().settings(subject), "perform_scr": self.type_id == "scr", "dataset_names": names}

    def scores(self, subject: Subject, track: Track) -> Scores:
        self._check(subject)
        generator = torch.Generator().manual_seed(self.random_seed)
        tables = self.tables()
        concepts = [part for table in tables for part in self.concepts(table)]
        measured = {part.name: self.measured(subject, part, generator, track) for part in concepts}
        by_name = {name: self.metrics_of(found) for name, found in measured.items()}
        metrics: dict[str, float | None] = {**dict.fromkeys(self.metric_names()), **averages(by_name.values())}
        unstructured = {
            "data": {table.name: table.origin for table in tables},
            "texts": {part.name: part.sizes() for part in concepts},
            "probe_accuracy": {name: _readable(found.clean) for name, found in measured.items()},
            **self.per_class(measured),
        }
        details = [{"dataset_name": f"{name}_results", **values} for name, values in by_name.items()]
        used = {
            f"texts of {part.name}": float(len(_each_once(part.train) + _each_once(part.test))) for part in concepts
        }
        headline = {**{name: metrics[name] for name in self.shown()}, **used}
        return Scores({self.category: metrics}, details, unstructured, headline)

    def measured(self, subject: Subject, concepts: Concepts, generator: Generator, track: Track) -> Measured:
        """Accuracies of probes on one set of texts, before and after ablations."""
        train = self.encoded(subject, concepts.train, track, f"{concepts.name}, training texts")
        test = self.encoded(subject, concepts.test, track, f"{concepts.name}, test texts")
        probes = self.probes(train, test, generator, track)
        return self.ablations(subject, train, test, probes, generator)

    def encoded(self, subject: Subject, groups: TextGroups, track: Track, what: str) -> Encoded:
        """Every text once, and its row in each group that it is in."""
        texts = _each_once(groups)
        place = {text: row for row, text in enumerate(texts)}
        rows = {name: torch.tensor([place[text] for text in members]) for name, members in groups.items()}
        return Encoded(text_means(subject, texts, self.context_length, track, what), rows)

    def probes(self, train: Encoded, test: Encoded, generator: Generator, track: Track) -> dict[str, nn.Linear]:
        """One of every group; SCR needs but every second, but the others are part of SAEBench's random sequence."""
        training = ProbeTraining(
            self.probe_train_batch_size,
            self.probe_epochs,
            self.probe_lr,
            self.probe_l1_penalty,
            self.early_stopping_patience,
        )
        probes = {}
        for name in track(train.groups, len(train.groups), "probes"):
            examples = self.examples(train.groups, name, generator)
            tested = self.examples(test.groups, name, generator)
            x, test_x = train.texts.activations[examples.rows], test.texts.activations[tested.rows]
            probes[name] = training.fit(x, examples.labels, test_x, tested.labels, generator)
        return probes

    def ablations(
        self, subject: Subject, train: Encoded, test: Encoded, probes: Mapping[str, nn.Linear], generator: Generator
    ) -> Measured:
        """What follows once there are probes."""
        tasks = self.tasks(train.groups)
        seen = readout(subject.autoencoder, [probes[task] for task in tasks])
        logits = seen.logits(test.texts)
        clean = self._accuracies(logits, tasks, test.groups, generator)
        effects = {}
        for column, task in enumerate(tasks):
            difference = mean_difference(train.texts, self.examples(train.groups, task, generator))
            effects[task] = self.effects(difference, seen.of_latents[:, column])
        ablated: dict[str, dict[int, Accuracies]] = {task: {} for task in tasks}
        for task in tasks:
            for n in self.possible(subject):
                without = logits - seen.of_ablated(test.texts, strongest(effects[task], n))
                ablated[task][n] = self._accuracies(without, tasks, test.groups, generator)
        return Measured(clean, ablated)

    @abstractmethod
    def examples(self, groups: Groups, name: str, generator: Generator) -> Examples:
        """What the probe of a group is trained or tested on."""

    @abstractmethod
    def tables(self) -> list[Table]:
        """The data sets."""

    @abstractmethod
    def concepts(self, table: Table) -> list[Concepts]:
        """The groups of texts of a data set."""

    @abstractmethod
    def tasks(self, groups: Groups) -> list[str]:
        """The groups whose probes are tested, and whose latents ablated."""

    @abstractmethod
    def readings(self, tasks: list[str]) -> list[tuple[str, list[str]]]:
        """Groups, and the probes that are tested on each, in SAEBench's order."""

    @abstractmethod
    def effects(self, difference: Float[Tensor, " d_sae"], seen: Float[Tensor, " d_sae"]) -> Float[Tensor, " d_sae"]:
        """How much latents have to do with a probe, from their `mean_difference`, and from w . W_dec[j]."""

    @abstractmethod
    def metrics_of(self, measured: Measured) -> dict[str, float]:
        """The metrics of one set of texts, by the names of the schema."""

    @abstractmethod
    def metric_names(self) -> list[str]:
        """All of them."""

    @abstractmethod
    def shown(self) -> list[str]:
        """Those of the summary table."""

    def per_class(self, measured: Mapping[str, Measured]) -> dict[str, Any]:
        """What there is besides, of each class."""
        return {}

    def _check(self, subject: Subject) -> None:
        require_at_least(1, probe_train_batch_size=self.probe_train_batch_size, probe_epochs=self.probe_epochs)
        require_at_least(4, train_set_size=self.train_set_size, test_set_size=self.test_set_size)
        require_at_least(2, context_length=self.context_length)
        if not self.n_values or min(self.n_values) < 1:
            raise InputError(f"n_values is {list(self.n_values)}; it must be numbers of at least 1.")
        subject.model.require_positions(self.context_length)

    def possible(self, subject: Subject) -> list[int]:
        """The n_values that there are as many latents for."""
        return [n for n in self.n_values if n <= subject.autoencoder.d_sae]

    def _accuracies(
        self, logits: Float[Tensor, "texts probes"], tasks: list[str], groups: Groups, generator: Generator
    ) -> Accuracies:
        found = {}
        for group, probes in self.readings(tasks):
            examples = self.examples(groups, group, generator)
            for probe in probes:
                of_probe = logits[examples.rows, tasks.index(probe)]
                found[probe, group] = accuracy(of_probe, examples.labels)
        return found


def _each_once(groups: TextGroups) -> list[str]:
    return list(dict.fromkeys(text for members in groups.values() for text in members))


def _readable(accuracies: Accuracies) -> dict[str, float]:
    return {f"{probe} probe on {group}": value for (probe, group), value in accuracies.items()}

"""k-sparse probing: how well labels of texts are told from a few latents (SAEBench `sparse_probing_sae_probes`)."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vsae_lightning.errors import InputError, did_you_mean, require_at_least
from vsae_lightning.evaluation.evaluation import Evaluation, Scores, Track
from vsae_lightning.evaluation.labelled import LabelledTexts, labelled_names, read_labelled
from vsae_lightning.evaluation.last_tokens import last_token_activations, sparse_latents
from vsae_lightning.evaluation.probes import (
    LEAST_TEXTS,
    Penalty,
    ProbeScores,
    balanced_split,
    by_mean_difference,
    probe,
)
from vsae_lightning.evaluation.subject import Subject

# Of short texts, one or two of each family of the 113 sets, so that two cores need minutes and not hours.
FEW = (
    "5_hist_fig_ismale",
    "24_headline_isiran",
    "41_truthqa_tf",
    "70_prime-factors",
    "87_glue_cola",
    "95_toxic_is",
    "96_spam_is",
    "105_click_bait",
    "114_nyc_borough_Manhattan",
    "119_us_state_TX",
    "121_us_timezone_New_York",
    "123_world_country_United_Kingdom",
    "127_art_type_song",
    "129_arith_mc_A",
    "130_temp_cat_Frequency",
    "133_context_type_Causality",
    "149_twt_emotion_happiness",
    "155_athlete_sport_basketball",
)


class _OfSet(NamedTuple):
    """What probes of one labelled set came to."""

    sizes: dict[str, int]
    selected: list[int]
    of_activations: ProbeScores
    of_all: ProbeScores
    of_top: dict[int, ProbeScores]


@dataclass(frozen=True)
class Probing(Evaluation):
    """Logistic regression on the k latents that differ most between two kinds of texts, at their last tokens.

    Beside these there are one on all latents and one on the activations themselves, both with an l2 penalty. Texts
    start with the BOS token whatever the training had; see `last_token_activations`.

    Args:
        datasets: Names of labelled sets, separated by commas; "few": 18 of short texts; "all": the 113 of sae-probes.
        data: A folder of sets instead of those of sae-probes: files NAME.csv, .csv.zst, .jsonl, .jsonl.zst or
            .parquet with columns `prompt` or `text` and `target` or `label`; "few" is then all of them.
        ks: Numbers of latents.
        reg_type: The penalty of the regressions on k latents.
        binarize: Whether k latents are 1 where active, instead of their values.
        random_seed: Of the split into train and test, and of the solver.
        max_texts: Texts of one set at most, half of each label; those of sae-probes have no more than 5000.
        max_length: Tokens of one text at most, its last ones, and no more than the language model has positions.
    """

    datasets: str = "few"
    data: str | None = None
    ks: tuple[int, ...] = (1, 2, 5)
    reg_type: Penalty = "l1"
    binarize: bool = False
    random_seed: int = 42
    max_texts: int = 5000
    max_length: int = 1024

    type_id: ClassVar[str] = "sparse_probing_sae_probes"

    def settings(self, subject: Subject) -> dict[str, Any]:
        fixed = {"setting": "normal", "include_llm_baseline": True, "baseline_method": "logreg"}
        return {**super().settings(subject), **fixed, "dataset_names": self.dataset_names()}

    def dataset_names(self) -> list[str]:
        """The labelled sets that `datasets` means.

        Raises:
            InputError: There is none of such a name, or none at all.
        """
        known = labelled_names(self.folder)
        if self.datasets == "all" or (self.datasets == "few" and self.folder):
            return known
        names = FEW if self.datasets == "few" else [name.strip() for name in self.datasets.split(",") if name.strip()]
        for name in names:
            if name not in known:
                raise InputError(f"datasets: there is no labelled set {name!r}.{did_you_mean(name, known)}")
        if not names:
            raise InputError("datasets is empty; it is names of labelled sets, few or all.")
        return list(dict.fromkeys(names))

    @property
    def folder(self) -> Path | None:
        """Where the sets are; None: in the package sae-probes."""
        return Path(self.data) if self.data else None

    def positions(self, subject: Subject) -> int:
        """Tokens of one text at most, BOS included."""
        return min(self.max_length, subject.model.positions or self.max_length)

    def scores(self, subject: Subject, track: Track) -> Scores:
        names = self.dataset_names()
        require_at_least(LEAST_TEXTS, max_texts=self.max_texts)
        require_at_least(2, max_length=self.max_length)
        require_at_least(1, **{"ks, of which one": min(self.ks, default=0)})
        results = {name: self._of_set(name, subject) for name in track(names, len(names), "labelled sets")}
        details = [{"dataset_name": name, **self._details(result)} for name, result in results.items()]
        flat = [{**_llm(result), **_sae(result)} for result in results.values()]
        means = {metric: float(np.mean([row[metric] for row in flat])) for metric in flat[0]}
        metrics: dict[str, dict[str, float | None]] = {
            kind: {metric: value for metric, value in means.items() if metric.startswith(kind)}
            for kind in ("llm", "sae")
        }
        headline = {metric: value for metric, value in means.items() if metric.endswith("accuracy")}
        return Scores(metrics, details, self._unstructured(results, subject), dict(headline))

    def _of_set(self, name: str, subject: Subject) -> _OfSet:
        texts, labels = balanced_texts(name, read_labelled(name, self.folder), self.max_texts)
        activations = last_token_activations(subject, texts, self.positions(subject))
        latents = sparse_latents(subject.autoencoder, activations)
        split = balanced_split(labels, self.random_seed)

        def scored(features: Any, penalty: Penalty) -> ProbeScores:
            train, test = split
            return probe(features[train], labels[train], features[test], labels[test], penalty, self.random_seed)

        order = by_mean_difference(latents[split.train], labels[split.train])
        of_top = {}
        for k in self.ks:
            few = latents[:, order[:k]].toarray()
            of_top[k] = scored(few != 0 if self.binarize else few, self.reg_type)
        # A latent that no text to train on has keeps weight 0 under the l2 penalty.
        seen = np.flatnonzero(latents[split.train].count_nonzero(axis=0))
        return _OfSet(
            sizes={"texts": len(texts), "train": len(split.train), "test": len(split.test)},
            selected=order[: max(self.ks)].tolist(),
            of_activations=scored(activations.numpy(), "l2"),
            of_all=scored(latents[:, seen], "l2"),
            of_top=of_top,
        )

    def _details(self, result: _OfSet) -> dict[str, Any]:
        by_k = {k: _named("test", scores) for k, scores in result.of_top.items()}
        return {**_llm(result), **_sae(result), "sae_metrics_by_k": by_k}

    def _unstructured(self, results: dict[str, _OfSet], subject: Subject) -> dict[str, Any]:
        return {
            "data": self.data or f"sae-probes {version('sae-probes')}",
            "position": f"last token of BOS and the text's last {self.positions(subject) - 1} tokens at most",
            "sizes": {name: result.sizes for name, result in results.items()},
            "selected_latents": {name: result.selected for name, result in results.items()},
        }


def balanced_texts(name: str, labelled: LabelledTexts, most: int) -> tuple[list[str], NDArray[np.int64]]:
    """The first texts of either label, as many of one as of the other, in their order."""
    labels = np.array(labelled.labels)
    of_either = [np.flatnonzero(labels == label) for label in (0, 1)]
    each = min(*map(len, of_either), most // 2)
    if 2 * each < LEAST_TEXTS:
        raise InputError(f"datasets: {name!r} has {each} texts of one label; it takes {LEAST_TEXTS // 2} of either.")
    kept = np.sort(np.concatenate([places[:each] for places in of_either]))
    return [labelled.texts[place] for place in kept], labels[kept]


def _named(prefix: str, scores: ProbeScores) -> dict[str, float]:
    return {f"{prefix}_{metric}": value for metric, value in scores._asdict().items()}


def _llm(result: _OfSet) -> dict[str, float]:
    return _named("llm_test", result.of_activations)


def _sae(result: _OfSet) -> dict[str, float]:
    of_all = {"sae_test_accuracy": result.of_all.accuracy}
    of_top = [_named(f"sae_top_{k}_test", scores) for k, scores in result.of_top.items()]
    return of_all | {name: value for scores in of_top for name, value in scores.items()}

"""First-letter absorption."""

import random
import statistics
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.absorbed_words import absorption
from vsae_lightning.evaluation.absorption_probes import LetterProbeTraining
from vsae_lightning.evaluation.evaluation import Evaluation, Scores, Track, untracked
from vsae_lightning.evaluation.first_letters import (
    Prompt,
    Template,
    ask,
    training_and_test_prompts,
    vocabulary_words,
    word_activations,
)
from vsae_lightning.evaluation.letter_probes import LetterProbe, Spelled, letter_probes
from vsae_lightning.evaluation.subject import Subject


@dataclass(frozen=True)
class Absorption(Evaluation):
    """Whether the latents of a first letter stay silent on words that other latents stand for (Chanin et al. 2024).

    SAEBench's evals/absorption: linear probes of the first letter at words of the vocabulary, the latents that
    predict it, and of the words that a probe finds it in, how many those latents leave to others. Latents are taken
    as they are with decoder rows of norm 1, which is how SAEBench loads what it downloads.

    Args:
        random_seed: Of words, prompts, probes and batches. SAEBench leaves them to chance.
        words_per_letter: At most so many words of each first letter; None: the whole vocabulary, as SAEBench. The
            language model reads a prompt of some 80 tokens for each, and one more for most of a fifth of them.
        icl_examples: Answered examples in a prompt.
        prompt_template: The question.
        prompt_token_pos: Where the word is in a prompt, counted from the end.
        llm_batch_size: Prompts at once.
        f1_jump_threshold: F1 that one more latent must add to a k-sparse probe to count as a part of the feature.
        max_k_value: At most so many latents are taken for one feature.
        k_sparse_probe_l1_decay: Weight of the L1 by which these latents are found.
        k_sparse_probe_batch_size: Rows of a batch there: with 120 words per letter as many steps as SAEBench takes with
            4096 and a vocabulary of some 50,000.
        k_sparse_probe_num_epochs: Epochs there.
        min_GT_probe_f1: A letter counts if its linear probe has a larger F1 on the test words.
        min_feats_for_eval: With fewer such letters nothing is measured.
    """

    type_id: ClassVar[str] = "absorption_first_letter"

    random_seed: int = 42
    words_per_letter: int | None = 120
    icl_examples: int = 10
    prompt_template: str = "{word} has the first letter:"
    prompt_token_pos: int = -6
    llm_batch_size: int = 64
    f1_jump_threshold: float = 0.03
    max_k_value: int = 10
    k_sparse_probe_l1_decay: float = 0.01
    k_sparse_probe_batch_size: int = 256
    k_sparse_probe_num_epochs: int = 50
    min_GT_probe_f1: float = 0.6  # noqa: N815, the name in SAEBench
    min_feats_for_eval: int = 20

    def words(self, subject: Subject) -> list[str]:
        """The words that are asked about, in the order of their tokens."""
        return vocabulary_words(subject.model.tokenizer, self.words_per_letter, self.random_seed)

    def scores(self, subject: Subject, track: Track) -> Scores:
        self._check(subject)
        words, rng = self.words(subject), random.Random(self.random_seed)
        training, test = training_and_test_prompts(words, self._template, rng)
        probes = self._probes(subject, training, test, track)
        found: dict[str, Any] = {
            "words": len(words),
            "letters": {letter: probe.described() for letter, probe in probes.items()},
        }
        # Of all letters, measured or not: the prompts of one depend on the draws for those before it.
        prompts = {
            letter: [ask(word, words, self._template, rng) for word in probe.found] for letter, probe in probes.items()
        }
        measured = [letter for letter, probe in probes.items() if probe.f1 > self.min_GT_probe_f1]
        if len(measured) < self.min_feats_for_eval:
            found["reason"] = self.too_few(len(measured))
            return Scores({"mean": summary([])}, [], found, headline([]))
        details = [
            self._detail(subject, letter, probes[letter], prompts[letter])
            for letter in track(measured, len(measured), "absorption by letter")
        ]
        return Scores({"mean": summary(details)}, details, found, headline(details))

    def too_few(self, measured: int | str) -> str:
        """Why nothing was measured."""
        return (
            f"the linear probes of {measured} letters have an F1 above min_GT_probe_f1 = {self.min_GT_probe_f1}; "
            f"min_feats_for_eval = {self.min_feats_for_eval} are asked for"
        )

    @property
    def _template(self) -> Template:
        return Template(self.prompt_template, self.icl_examples, self.prompt_token_pos)

    def _check(self, subject: Subject) -> None:
        if "{word}" not in self.prompt_template:
            raise InputError(f"absorption.prompt_template is {self.prompt_template!r}; it must have {{word}} in it.")
        if not 1 <= self.max_k_value <= subject.autoencoder.d_sae:
            raise InputError(
                f"absorption.max_k_value is {self.max_k_value}; it must be at least 1 and at most the number of "
                f"latents, {subject.autoencoder.d_sae}."
            )

    def _probes(
        self, subject: Subject, training: list[Prompt], test: list[Prompt], track: Track
    ) -> dict[str, LetterProbe]:
        l1_training = LetterProbeTraining(
            batch_size=self.k_sparse_probe_batch_size,
            epochs=self.k_sparse_probe_num_epochs,
            weight_decay=1e-6,
            l1_decay=self.k_sparse_probe_l1_decay,
        )
        return letter_probes(
            self._spelled(subject, training, track, "training words"),
            self._spelled(subject, test, track, "test words"),
            lambda x: unit_row_latents(subject.autoencoder, x),
            l1_training,
            self.max_k_value,
            self.f1_jump_threshold,
            self.random_seed,
            track,
        )

    def _spelled(self, subject: Subject, prompts: list[Prompt], track: Track, what: str) -> Spelled:
        x = word_activations(subject, prompts, self._template, self.llm_batch_size, track, what)
        return Spelled([prompt.word for prompt in prompts], x)

    def _detail(self, subject: Subject, letter: str, probe: LetterProbe, prompts: list[Prompt]) -> dict[str, Any]:
        autoencoder = subject.autoencoder
        x = self._spelled(subject, prompts, untracked, letter).x
        parts = [
            absorption(
                part, unit_row_latents(autoencoder, part), autoencoder.W_dec, probe.direction, probe.split.latents
            )
            for part in x.split(self.llm_batch_size)
        ]
        fractions, full = (torch.cat(values) for values in zip(*parts, strict=True))
        return {
            "first_letter": letter,
            "mean_absorption_fraction": float(fractions.mean()),
            "full_absorption_rate": float(full.double().mean()),
            "num_full_absorption": int(full.sum()),
            "num_probe_true_positives": len(prompts),
            "num_split_features": len(probe.split.latents),
        }


@torch.no_grad()
def unit_row_latents(autoencoder: SparseAutoencoder, x: Float[Tensor, "rows d_in"]) -> Float[Tensor, "rows d_sae"]:
    """The latents of the equal autoencoder whose decoder rows have norm 1: f_j ||W_dec[j]||, in units of x."""
    return autoencoder.encode(x) * autoencoder.W_dec.norm(dim=-1)


def summary(details: list[dict[str, Any]]) -> dict[str, float | None]:
    """Mean and standard deviation over letters; None where there are too few."""
    columns = {
        "absorption_fraction_score": [detail["mean_absorption_fraction"] for detail in details],
        "full_absorption_score": [detail["full_absorption_rate"] for detail in details],
        "num_split_features": [detail["num_split_features"] for detail in details],
    }
    means = {f"mean_{name}": statistics.mean(values) if values else None for name, values in columns.items()}
    deviations = {
        f"std_dev_{name}": statistics.stdev(values) if len(values) > 1 else None for name, values in columns.items()
    }
    return {**means, **deviations}


def headline(details: list[dict[str, Any]]) -> dict[str, float | None]:
    """What the summary table shows."""
    return {name: value for name, value in summary(details).items() if name.startswith("mean_")} | {
        "letters": len(details)
    }

"""What tells the first letter: linear probes of activations, and the latents that k-sparse probes need."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vsae_lightning.evaluation.absorption_probes import (
    LetterProbeTraining,
    SplitLatents,
    f1_score,
    sparse_latents,
    split_latents,
)
from vsae_lightning.evaluation.evaluation import Track
from vsae_lightning.evaluation.first_letters import LETTERS, letter_of

LINEAR = LetterProbeTraining(batch_size=64, weight_decay=1e-4)


class Spelled(NamedTuple):
    """Words, and the activations at them in a prompt each."""

    words: Sequence[str]
    x: Float[Tensor, "words d_in"]

    def letters(self) -> Tensor:
        return torch.tensor([letter_of(word) for word in self.words])


@dataclass(frozen=True)
class LetterProbe:
    """What was found of one letter.

    Attributes:
        f1: Of the linear probe on the test words.
        direction: Its weights.
        found: The test words of this letter that it finds.
        split: The latents that a k-sparse probe of the letter is made of.
    """

    f1: float
    direction: Float[Tensor, " d_in"]
    found: list[str]
    split: SplitLatents

    def described(self) -> dict[str, Any]:
        """As plain values."""
        return {"f1_probe": self.f1, "split_features": self.split.latents, "f1_k_sparse": self.split.f1}


def letter_probes(
    training: Spelled,
    test: Spelled,
    encode: Callable[[Tensor], Tensor],
    l1_training: LetterProbeTraining,
    max_k: int,
    f1_jump_threshold: float,
    seed: int,
    track: Track,
) -> dict[str, LetterProbe]:
    """Of each letter that has a training word, in alphabetical order (SAEBench evals/absorption/k_sparse_probing.py).

    The linear probes are trained on activations. The candidates for a letter's latents are those with the largest
    weights in a probe of all latents, trained with an L1; logistic probes on the first k of them say how many count.

    Args:
        training: Words that the probes are trained on.
        test: Others, which they are judged by.
        encode: Activations to latents [rows, d_sae].
        l1_training: How the probe of all latents is trained.
        max_k: The number of candidates.
        f1_jump_threshold: See `split_latents`.
        seed: Of probes and batches.
        track: Shows how many letters are done.
    """
    classes, test_classes = training.letters(), test.letters()
    latents, test_latents = sparse_latents(encode, training.x), sparse_latents(encode, test.x)
    with _seeded(seed):
        linear = LINEAR.fit(training.x, classes, training.x.device)
        weights = l1_training.fit(latents, classes, training.x.device).weight
    finds = (test.x @ linear.weight.T + linear.bias > 0).cpu()
    by_column, test_by_column = latents.tocsc(), test_latents.tocsc()
    probes = {}
    present = classes.unique().tolist()
    for row, letter in track(enumerate(present), len(present), "letters' latents"):
        is_letter, test_is_letter = classes == letter, test_classes == letter
        split = split_latents(
            weights[row].topk(max_k).indices.tolist(),
            (by_column, is_letter.numpy()),
            (test_by_column, test_is_letter.numpy()),
            f1_jump_threshold,
        )
        found = [test.words[word] for word in (finds[:, row] & test_is_letter).nonzero().flatten().tolist()]
        f1 = f1_score(finds[:, row].numpy(), test_is_letter.numpy())
        probes[LETTERS[letter]] = LetterProbe(f1, linear.weight[row], found, split)
    return probes


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torch's global generator on the CPU starts from `seed`, and goes on afterwards from where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield

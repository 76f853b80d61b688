"""What each feature tells apart: of sets of labelled texts that whose two kinds it separates best."""

from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from vsae_lightning.evaluation.evaluation import Track
from vsae_lightning.evaluation.labelled import read_labelled
from vsae_lightning.evaluation.last_tokens import last_token_activations, sparse_latents
from vsae_lightning.evaluation.probing import Probing, balanced_texts
from vsae_lightning.evaluation.subject import Subject

MAX_TEXTS = 1000
LEAST_AUC = 0.7
COLUMNS = 512  # latents that are dense together


class ProbingLabels(NamedTuple):
    """Of every latent.

    Attributes:
        names: The set that it separates best, None where none by an area of 0.7.
        auc: The area under its ROC curve there, or 1 - it, whichever is larger; 0.5: not at all.
    """

    names: list[str | None]
    auc: Float[np.ndarray, " d_sae"]


def probing_labels(subject: Subject, names: list[str], track: Track) -> ProbingLabels:
    """By each latent alone, at the last token of at most 1,000 texts of each set, as many of either kind.

    Args:
        subject: The autoencoder.
        names: Of labelled sets of sae-probes.
        track: Shows how far it is.

    Raises:
        InputError: A set has too few texts of one kind.
    """
    positions = Probing().positions(subject)
    areas = []
    for name in track(names, len(names), "labelled sets"):
        texts, labels = balanced_texts(name, read_labelled(name), MAX_TEXTS)
        activations = last_token_activations(subject, texts, positions)
        area = areas_under_curve(sparse_latents(subject.autoencoder, activations), labels)
        areas.append(np.maximum(area, 1 - area))
    best = np.argmax(areas, axis=0)
    auc = np.max(areas, axis=0)
    return ProbingLabels(
        [names[set_] if area >= LEAST_AUC else None for set_, area in zip(best, auc, strict=True)], auc
    )


def areas_under_curve(
    latents: scipy.sparse.csr_array, labels: Int[np.ndarray, " texts"]
) -> Float[np.ndarray, " d_sae"]:
    """P(a latent is larger in a text of label 1 than in one of label 0), ties count half: the area under the ROC curve,
    from the sum of ranks (Mann & Whitney 1947)."""
    from scipy.stats import rankdata

    ones = labels == 1
    columns = latents.tocsc()
    areas = []
    for first in range(0, latents.shape[1], COLUMNS):
        ranks = rankdata(columns[:, first : first + COLUMNS].toarray(), axis=0)
        areas.append(ranks[ones].sum(axis=0) - ones.sum() * (ones.sum() + 1) / 2)
    return np.concatenate(areas) / (ones.sum() * (~ones).sum())

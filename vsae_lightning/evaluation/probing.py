"""Sparse probing of labelled text."""

from dataclasses import dataclass
from typing import ClassVar

from vsae_lightning.evaluation.evaluation import Evaluation, Scores, Track
from vsae_lightning.evaluation.subject import Subject


@dataclass(frozen=True)
class Probing(Evaluation):
    """Sparse probing of labelled text."""

    type_id: ClassVar[str] = "sparse_probing_sae_probes"

    def scores(self, subject: Subject, track: Track) -> Scores:
        raise NotImplementedError

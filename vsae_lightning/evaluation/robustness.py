"""Robustness to noise."""

from dataclasses import dataclass
from typing import ClassVar

from vsae_lightning.evaluation.evaluation import Evaluation, Scores, Track
from vsae_lightning.evaluation.subject import Subject


@dataclass(frozen=True)
class Robustness(Evaluation):
    """Robustness to noise."""

    type_id: ClassVar[str] = "robustness"

    def scores(self, subject: Subject, track: Track) -> Scores:
        raise NotImplementedError

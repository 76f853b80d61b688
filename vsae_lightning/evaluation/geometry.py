"""Geometry of the dictionary."""

from dataclasses import dataclass
from typing import ClassVar

from vsae_lightning.evaluation.evaluation import Evaluation, Scores, Track
from vsae_lightning.evaluation.subject import Subject


@dataclass(frozen=True)
class Geometry(Evaluation):
    """Geometry of the dictionary."""

    type_id: ClassVar[str] = "geometry"

    def scores(self, subject: Subject, track: Track) -> Scores:
        raise NotImplementedError

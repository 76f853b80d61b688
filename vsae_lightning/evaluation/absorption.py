"""First-letter absorption."""

from dataclasses import dataclass
from typing import ClassVar

from vsae_lightning.evaluation.evaluation import Evaluation, Scores, Track
from vsae_lightning.evaluation.subject import Subject


@dataclass(frozen=True)
class Absorption(Evaluation):
    """First-letter absorption."""

    type_id: ClassVar[str] = "absorption_first_letter"

    def scores(self, subject: Subject, track: Track) -> Scores:
        raise NotImplementedError

"""How well the reconstruction stands for the activation."""

from dataclasses import dataclass
from typing import ClassVar

from vsae_lightning.evaluation.evaluation import Evaluation, Scores, Track
from vsae_lightning.evaluation.subject import Subject


@dataclass(frozen=True)
class Core(Evaluation):
    """How well the reconstruction stands for the activation."""

    type_id: ClassVar[str] = "core"

    def scores(self, subject: Subject, track: Track) -> Scores:
        raise NotImplementedError

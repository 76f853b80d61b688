"""Meta-SAE."""

from dataclasses import dataclass
from typing import ClassVar

from vsae_lightning.evaluation.evaluation import Evaluation, Scores, Track
from vsae_lightning.evaluation.subject import Subject


@dataclass(frozen=True)
class MetaSAE(Evaluation):
    """Meta-SAE."""

    type_id: ClassVar[str] = "meta_structure_decoder_variance"

    def scores(self, subject: Subject, track: Track) -> Scores:
        raise NotImplementedError

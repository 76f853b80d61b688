"""Concept removal: SCR and TPP."""

from dataclasses import dataclass
from typing import ClassVar

from vsae_lightning.evaluation.evaluation import Evaluation, Scores, Track
from vsae_lightning.evaluation.subject import Subject


@dataclass(frozen=True)
class SCR(Evaluation):
    """Concept removal: SCR and TPP."""

    type_id: ClassVar[str] = "scr"

    def scores(self, subject: Subject, track: Track) -> Scores:
        raise NotImplementedError


@dataclass(frozen=True)
class TPP(Evaluation):
    """Concept removal: SCR and TPP."""

    type_id: ClassVar[str] = "tpp"

    def scores(self, subject: Subject, track: Track) -> Scores:
        raise NotImplementedError

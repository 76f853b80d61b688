"""What an evaluation is: settings, and a function from a subject to scores."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

from vsae_lightning.evaluation.subject import Subject

T = TypeVar("T")
Track = Callable[[Iterable[Any], int, str], Iterator[Any]]


class Scores(NamedTuple):
    """The outcome, laid out as SAEBench's schema of this evaluation has it.

    Attributes:
        metrics: Category, then metric, to a number; None: could not be computed here.
        details: Plain values, per class, data set or letter.
        unstructured: Plain values that the schema has no place for, such as where data came from.
        headline: The few metrics that the summary table shows, by the name it shows.
    """

    metrics: dict[str, dict[str, float | None]]
    details: list[dict[str, Any]]
    unstructured: dict[str, Any]
    headline: dict[str, float | None]


@dataclass(frozen=True)
class Evaluation(ABC):
    """Settings are the fields of a dataclass, plain values; each is an option `--NAME.field` of `vsae evaluate`.

    Attributes:
        type_id: SAEBench's `eval_type_id`; of an evaluation that it has not, a name of our own.
        reads_held_out: Whether its scores depend on the held-out text of the training.
    """

    type_id: ClassVar[str]
    reads_held_out: ClassVar[bool] = False

    def settings(self, subject: Subject) -> dict[str, Any]:
        """What decides the scores besides the autoencoder: SAEBench's `eval_config`."""
        provenance = subject.provenance
        of_the_model = {"model_name": provenance.model_name, "llm_dtype": provenance.dtype}
        return {**of_the_model, **asdict(self)}

    @abstractmethod
    def scores(self, subject: Subject, track: Track) -> Scores:
        """Evaluate.

        Args:
            subject: What to evaluate.
            track: `track(items, total, what)` iterates over items and shows how far it is.

        Raises:
            InputError: A setting, or data that is not there.
        """


def untracked(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """A `Track` that shows nothing."""
    yield from items

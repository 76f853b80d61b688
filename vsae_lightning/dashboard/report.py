"""The folder that `vsae analyze` writes."""

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path

from vsae_lightning.analysis.contexts import Contexts
from vsae_lightning.analysis.features import describe
from vsae_lightning.analysis.maps import Maps
from vsae_lightning.analysis.matching import Comparison, compare
from vsae_lightning.analysis.observation import Observation
from vsae_lightning.analysis.predicates import Predicate, f1_column, mean_f1, predicates
from vsae_lightning.analysis.training_usage import TrainingUsage
from vsae_lightning.dashboard.comparison_files import write_comparison
from vsae_lightning.dashboard.data_files import DATA, Write, read_data, writer
from vsae_lightning.dashboard.feature_files import write_features
from vsae_lightning.dashboard.map_files import write_maps
from vsae_lightning.dashboard.overview import manifest, overview
from vsae_lightning.dashboard.seal import is_sealed, write_seal
from vsae_lightning.dashboard.vocabulary import vocabulary
from vsae_lightning.dashboard.window_files import write_windows
from vsae_lightning.errors import InputError
from vsae_lightning.evaluation.evaluation import Track
from vsae_lightning.files import remove_leftovers, replacing_tree

PAGES = "vsae_lightning.dashboard"
OTHER = "other/"
FOLDER = "report"
MARK = b'receive("manifest",'


@dataclass(frozen=True)
class Shown:
    """What a report shows.

    Attributes:
        only: The features that have pages of their own; None: all.
        contexts: Which contexts of a feature.
        maps: Which maps.
        comparison: How another run is compared with.
    """

    only: list[int] | None = None
    contexts: Contexts = field(default_factory=Contexts)
    maps: Maps = field(default_factory=Maps)
    comparison: Comparison = field(default_factory=Comparison)


@dataclass(frozen=True)
class Analysed:
    """An autoencoder that a report is of.

    Attributes:
        place: The run folder, the checkpoint or the exported folder.
        member: Which member of an ensemble.
        observation: What it did on the excerpt.
    """

    place: Path
    member: str | None
    observation: Observation

    @property
    def usage(self) -> TrainingUsage | None:
        """When its features fired in training, where that is known."""
        return TrainingUsage.of(self.place, self.member)


def write_report(
    folder: Path, mine: Analysed, other: Analysed | None, shown: Shown, command: str, key: str, track: Track
) -> None:
    """Write the pages and all their data into an empty folder.

    Args:
        folder: Where.
        mine: What the report is of.
        other: What it is compared with, on the same excerpt.
        shown: What is shown.
        command: What made the report.
        key: A hash of all that it depends on, see `key_of_report`.
        track: Shows how far it is.

    Raises:
        InputError: As `compare` and `write_maps`.
    """
    write = new_report(folder)
    observation = mine.observation
    # Before all that takes long: what cannot be compared is refused.
    compared = None if other is None else compare(observation, other.observation, shown.comparison)
    texts = vocabulary(observation.subject.model.tokenizer, observation.subject.model.embeddings)
    write("vocabulary", {"tokens": texts})
    found = _write_features(write, mine, texts, shown, track)
    drawn = write_maps(write, observation, shown.maps, track)
    write_windows(write, observation.firings, observation.excerpt, shown.contexts)
    if other is not None and compared is not None:
        theirs = _write_features(write, other, texts, shown, track, OTHER)
        write_comparison(write, compared, (f1_column(found).values, f1_column(theirs).values))
    write("overview", overview(observation, mine.place, mine.member, mine.usage, mean_f1(found), command))
    has = manifest(observation, shown.only, **drawn._asdict(), compare=other is not None)
    write("manifest", {**has, "key": key})
    write_seal(folder)


@contextmanager
def replacing_report(folder: Path) -> Iterator[Path]:
    """An empty folder, which takes the place of the report in `folder`, if any; what one that was killed left behind
    is removed.

    Raises:
        InputError: What stands there is no report, so that it would be lost; or nothing can be written there.
    """
    is_report = _is_report(folder)
    with ExitStack() as stack:
        try:
            if folder.exists() and not is_report and (folder.is_file() or any(folder.iterdir())):
                raise InputError(f"output: {str(folder)!r} is there already and is no report; give another folder.")
            remove_leftovers(folder)
            temporary = stack.enter_context(replacing_tree(folder))
        except OSError as error:
            raise InputError(f"output: {str(folder)!r} cannot be written: {error.strerror or error}.") from None
        yield temporary


def default_folder(run: Path, member: str | None) -> Path:
    """Where the report of a run goes that is given no other place: in its own folder.

    Raises:
        InputError: A link there, which a stranger may have made, leads elsewhere; or the member's name does.
    """
    if member is not None and re.fullmatch(r"[\w-]+", member) is None:
        raise InputError(f"member is {member!r}, which names no folder; give --output.")
    folder = run.resolve() / FOLDER
    for place in (folder, folder / member) if member else (folder,):
        if place.is_symlink():
            raise InputError(f"output: {str(place)!r} is a link to elsewhere; remove it, or give --output.")
    return folder / member if member else folder


def _is_report(folder: Path) -> bool:
    """By its own mark, so that nothing else is ever replaced; no link is followed, and no pipe waited for."""
    mark = folder / DATA / "manifest.js"
    if folder.is_symlink() or mark.parent.is_symlink() or mark.is_symlink() or not mark.is_file():
        return False
    with mark.open("rb") as file:
        return file.read(len(MARK)) == MARK


def key_of_report(folder: Path) -> str | None:
    """That of the report that is there; None where there is none that is whole and sealed by this user's machine."""
    if not is_sealed(folder):
        return None
    try:
        key: str = read_data(folder, "manifest")["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return key


def new_report(folder: Path) -> Write:
    """Copy the pages and what they load; returns what writes their data."""
    from plotly.offline import get_plotlyjs

    with as_file(files(PAGES) / "pages") as pages:
        shutil.copytree(pages, folder, dirs_exist_ok=True)
    (folder / "assets" / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    return writer(folder)


def _write_features(
    write: Write, one: Analysed, texts: list[str | list[int]], shown: Shown, track: Track, prefix: str = ""
) -> list[Predicate | None]:
    """Write the table and the pages of the features of one run; returns what predicts each best."""
    observation, usage = one.observation, one.usage
    found = predicates(observation.firings, observation.excerpt, texts, track)
    features = describe(observation, track, [*(usage.columns() if usage else []), f1_column(found)])
    only = None if prefix else shown.only
    write_features(write, features, shown.contexts, track, only, found, prefix)
    return found

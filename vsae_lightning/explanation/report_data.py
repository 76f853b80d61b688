"""What a report says of its features, read from its files of data."""

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from vsae_lightning.dashboard.data_files import read_data
from vsae_lightning.errors import InputError
from vsae_lightning.explanation.passages import Passage, passage


class Evidence(NamedTuple):
    """Of one feature.

    Attributes:
        firing: Its contexts, the strongest first, then those of every interval of strength.
        silent: Windows anywhere in the text where it does not fire.
    """

    firing: list[Passage]
    silent: list[Passage]


class ReportData:
    """A report that `vsae analyze` wrote.

    Args:
        folder: Of the report.

    Raises:
        InputError: There is none, or it is of a version that had no random windows.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.manifest = read_data(folder, "manifest")
            self._vocabulary = read_data(folder, "vocabulary")["tokens"]
            windows = read_data(folder, "windows")
            columns = read_data(folder, "columns")["columns"]
        except FileNotFoundError as error:
            raise InputError(f"{folder} is no whole report: it has no {error.filename}; write it anew.") from None
        self._context_length, self._first_offset = windows["context_length"], windows["first_offset"]
        self._windows = [self._passage(window, window["position"]) for window in windows["windows"]]
        self._firing = {int(feature): set(where) for feature, where in windows["firing"].items()}
        (self._density,) = (column["values"] for column in columns if column["key"] == "density")
        self._shard = lru_cache(maxsize=2)(lambda number: read_data(folder, f"features/{number:04}")["features"])

    def living(self) -> list[int]:
        """The features that fire and have a page, in order."""
        detailed = self.manifest["detailed"]
        features = range(self.manifest["d_sae"]) if detailed is None else sorted(detailed)
        return [feature for feature in features if self._density[feature]]

    def evidence(self, feature: int) -> Evidence:
        """Where a feature fires and where it does not."""
        number, place = divmod(feature, self.manifest["shard"])
        contexts = self._shard(number)[place]["contexts"]
        fires = self._firing.get(feature, set())
        return Evidence(
            [self._passage(context, context["position"] - context["at"]) for context in contexts],
            [window for index, window in enumerate(self._windows) if index not in fires],
        )

    def _passage(self, found: dict[str, Any], start: int) -> Passage:
        tokens = [self._vocabulary[token] for token in found["tokens"]]
        return passage(tokens, dict(found.get("values", ())), start, self._is_read)

    def _is_read(self, position: int) -> bool:
        return position % self._context_length >= self._first_offset

"""What has been answered already, so that nothing is asked twice, not even after a run was killed."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from vsae_lightning.files import write_json


class Answer(NamedTuple):
    """To one prompt.

    Attributes:
        content: What it says; None: malformed, as often as it was asked.
        tokens: What it cost, prompt and answer.
    """

    content: Any
    tokens: int


class Answers:
    """Of one feature, each by the key of its prompt; the file is whole after every answer.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self._known = {key: Answer(**answer) for key, answer in stored.items()}

    def get(self, key: str) -> Answer | None:
        return self._known.get(key)

    def put(self, key: str, answer: Answer) -> None:
        self._known[key] = answer
        write_json(self.path, {key: answer._asdict() for key, answer in self._known.items()})

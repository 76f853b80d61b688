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
        self._known = _read(path)

    def get(self, key: str) -> Answer | None:
        return self._known.get(key)

    def put(self, key: str, answer: Answer) -> None:
        self._known[key] = answer
        write_json(self.path, {key: answer._asdict() for key, answer in self._known.items()})


def _read(path: Path) -> dict[str, Answer]:
    """What is there and of the form of an answer; a stranger's file may be anything."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        found = {key: Answer(one["content"], one["tokens"]) for key, one in stored.items()}
    except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return {}
    return {key: one for key, one in found.items() if _is_answer(one)}


def _is_answer(answer: Answer) -> bool:
    """Text, a list of verdicts, or None; and a number of tokens."""
    content, tokens = answer
    is_list = isinstance(content, list) and all(isinstance(verdict, bool) for verdict in content)
    return (content is None or isinstance(content, str) or is_list) and type(tokens) is int and tokens >= 0

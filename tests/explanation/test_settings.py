"""The options of scoring on a command line."""

from dataclasses import replace

import pytest

from vsae_lightning.commands.options import call
from vsae_lightning.errors import InputError
from vsae_lightning.explanation.settings import Scoring

made: list[tuple[bool, Scoring]] = []


def command(run: str, score: bool = False, scoring: Scoring = Scoring()) -> None:  # noqa: B008, frozen
    """A command that scores."""
    made.append((score, scoring))


def parsed(*options: str) -> Scoring:
    made.clear()
    call(command, "command", ["RUN", *options])
    return made[0][1]


def test_features_are_how_many_or_which() -> None:
    assert parsed("--score", "--scoring.features", "7") == replace(Scoring(), features=7)
    assert made[0][0] is True
    assert parsed("--scoring.features", "[12, 40]").features == [12, 40]


def test_parameters_are_added_or_replaced() -> None:
    assert parsed("--scoring.parameters.top_k", "1").parameters == {**Scoring().parameters, "top_k": 1}
    assert parsed("--scoring.parameters", "{max_completion_tokens: 9}").parameters == {"max_completion_tokens": 9}


def test_the_key_is_taken_and_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--scoring.url", "http://localhost/v1", "--scoring.model", "m", "--scoring.api_key", "sk-4711")
    assert parsed(*options).endpoint() == ("http://localhost/v1", "m", "sk-4711")
    assert "sk-4711" not in repr(made)
    with pytest.raises(SystemExit):
        parsed(*options, "--print_config")
    assert "sk-4711" not in capsys.readouterr().out


def test_a_wrong_number_is_one_line() -> None:
    with pytest.raises(InputError, match=r"scoring\.batch is 0; it must be at least 1"):
        parsed("--scoring.batch", "0")

"""A function's arguments as the options of a command."""

import shlex
from dataclasses import dataclass, field

import pytest

from vsae_lightning.commands.options import call, command_line
from vsae_lightning.errors import InputError


@dataclass(frozen=True)
class Settings:
    """Settings.

    Args:
        number: A number.
        sizes: Sizes.
    """

    number: int = 3
    sizes: list[int] = field(default_factory=lambda: [1, 2])


CALLS: list[tuple[object, ...]] = []


def one(run: str, name: str = "x", flag: bool = False, settings: Settings = Settings()) -> None:
    CALLS.append((run, name, flag, settings))


def several(runs: list[str], flag: bool = False) -> None:
    CALLS.append((runs, flag))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["r"], ("r", "x", False, Settings())),
        (["r", "--flag", "--name", "y"], ("r", "y", True, Settings())),
        (["r", "--flag=false", "--settings.number", "5"], ("r", "x", False, Settings(5))),
        (["r", "--settings.sizes", "[7]"], ("r", "x", False, Settings(3, [7]))),
    ],
)
def test_words_and_options_become_arguments(options: list[str], expected: tuple[object, ...]) -> None:
    CALLS.clear()
    call(one, "one", options)
    assert [expected] == CALLS


def test_a_list_takes_all_words() -> None:
    CALLS.clear()
    call(several, "several", ["a", "b c", "--flag"])
    assert CALLS == [(["a", "b c"], True)]


def test_help_shows_the_words_first(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call(one, "one", ["--help"])
    assert "usage: vsae one RUN [--option VALUE ...]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "RUN is missing: vsae one RUN."),
        (["r", "s"], "'s' is one word too many: vsae one RUN."),
        (["r", "--nam", "y"], "there is no option --nam. Did you mean name"),
        (["r", "--settings.numberz", "1"], "there is no option --settings.numberz. Did you mean settings.number"),
        (["r", "--settings.number", "x"], "settings.number is 'x'; it must be of type int."),
    ],
)
def test_a_bad_option_is_named(options: list[str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint.replace(".", r"\.")):
        call(one, "one", options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["r"], "vsae one r"),
        (["a folder", "--name", "it's", "--flag"], """vsae one 'a folder' --name 'it'"'"'s' --flag"""),
        (
            ["r", "--settings.sizes", "[4, 5]", "--settings.number", "7"],
            "vsae one r --settings.number 7 --settings.sizes '[4, 5]'",
        ),
        (["r", "--settings.number", "3", "--name=x"], "vsae one r"),
    ],
)
def test_arguments_as_a_line_that_gives_them_again(options: list[str], expected: str) -> None:
    call(one, "one", options)
    arguments = dict(zip(("run", "name", "flag", "settings"), CALLS[-1], strict=True))
    assert command_line(one, "one", arguments) == expected
    call(one, "one", shlex.split(expected)[2:])
    assert CALLS[-1] == CALLS[-2]

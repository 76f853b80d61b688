"""A function's arguments as the options of a command."""

import inspect
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import is_dataclass
from itertools import chain, takewhile
from typing import Any, get_origin

from jsonargparse import ArgumentError, ArgumentParser

from vsae_lightning.errors import InputError, did_you_mean
from vsae_lightning.trust import trusted_packages, walled


def call(function: Callable[..., None], command: str, options: list[str]) -> None:
    """Parse `options` by the signature and the docstring of `function`, and call it.

    Words before the first option are its arguments without a default, in order; the last of these takes all that
    are left where it is a list. Others are `--name value`, of a dataclass `--name.field value`; a bool needs no value.

    Raises:
        InputError: An option that there is not, a value of the wrong type, or too few or too many words.
    """
    usage = f"vsae {command} {_words(function)} [--option VALUE ...]"
    parser = ArgumentParser(prog=f"vsae {command}", usage=usage, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file of these options")
    parameters = inspect.signature(function).parameters
    groups = {
        name: parameter.annotation for name, parameter in parameters.items() if is_dataclass(parameter.annotation)
    }
    parser.add_function_arguments(function, skip=set(groups))
    for name, settings in groups.items():
        parser.add_class_arguments(settings, name)
    try:
        arguments = parser.parse_args(_by_name(function, command, options))
    except ArgumentError as error:
        raise InputError(_explain(str(error), parser)) from None
    made = parser.instantiate(arguments)
    with walled(trusted_packages(made.get("trust") or "")):
        function(**{name: made[name] for name in parameters})


def command_line(function: Callable[..., None], command: str, arguments: dict[str, Any]) -> str:
    """What calls `function` with these arguments from a shell: its words, and the options that are no defaults.

    Args:
        function: As of `call`; of arguments without a default there are no lists.
        command: Its name.
        arguments: By name.
    """
    words = [str(arguments[parameter.name]) for parameter in _needed(function)]
    parameters = inspect.signature(function).parameters.values()
    options = [
        _as_options(one.name, arguments[one.name], one.default) for one in parameters if one.default != one.empty
    ]
    return shlex.join(["vsae", command, *words, *chain.from_iterable(options)])


def _as_options(name: str, value: Any, default: Any) -> list[str]:
    if value == default:
        return []
    if is_dataclass(value):
        fields = ((key, one, getattr(default, key)) for key, one in vars(value).items())
        return [text for key, one, usual in fields for text in _as_options(f"{name}.{key}", one, usual)]
    return [f"--{name}"] if value is True else [f"--{name}", str(value)]


def _by_name(function: Callable[..., None], command: str, options: list[str]) -> list[str]:
    """Words to `--name=word`, and `--flag` to `--flag=true`."""
    words = list(takewhile(lambda option: not option.startswith("-"), options))
    parameters, needed = inspect.signature(function).parameters, _needed(function)
    flags = {f"--{parameter.name}" for parameter in parameters.values() if parameter.annotation is bool}
    rest = options[len(words) :]
    named = [f"{option}=true" if option in flags else option for option in rest]
    if not set(rest) & {"-h", "--help", "--print_config"} and "--config" not in rest:
        usage = _words(function)
        if len(words) < len(needed):
            raise InputError(f"{needed[len(words)].name.upper()} is missing: vsae {command} {usage}.")
        if len(words) > len(needed) and not _is_list(needed[-1]):
            raise InputError(f"{words[len(needed)]!r} is one word too many: vsae {command} {usage}.")
    if needed and _is_list(needed[-1]) and len(words) >= len(needed):
        last = len(needed) - 1
        words = [*words[:last], json.dumps(words[last:])]
    return [*(f"--{p.name}={word}" for p, word in zip(needed, words, strict=False)), *named]


def _needed(function: Callable[..., None]) -> list[inspect.Parameter]:
    parameters = inspect.signature(function).parameters.values()
    return [parameter for parameter in parameters if parameter.default is parameter.empty]


def _words(function: Callable[..., None]) -> str:
    """What comes before the options: `RUN DIRECTORY`, or `RUNS ...`."""
    return " ".join(parameter.name.upper() + " ..." * _is_list(parameter) for parameter in _needed(function))


def _is_list(parameter: inspect.Parameter) -> bool:
    return get_origin(parameter.annotation) is list


def _explain(message: str, parser: ArgumentParser) -> str:
    """What jsonargparse says of a bad option, in one line."""
    message = " ".join(message.split())
    if stray := re.search(r"unrecognized arguments: (--[\w.]+)", message):
        known = [action.dest for action in parser._actions]
        return f"there is no option {stray[1]}.{did_you_mean(stray[1][2:], known)}"
    if unknown := re.search(r"(?:Key|Option) '([\w.]+)' is not (?:accepted|expected)", message):
        return f"there is no option --{unknown[1]}.{did_you_mean(unknown[1], [a.dest for a in parser._actions])}"
    if wrong := re.search(r'key "([\w.]+)": Expected a (?:<class \'(\w+)\'>|(.+?))\. Got value: (.*)', message):
        kind = wrong[2] or wrong[3]
        choices = re.fullmatch(r"typing\.Literal\[(.*)\]", kind)
        what = f"one of {choices[1]}".replace("'", "") if choices else f"of type {kind}"
        return f"{wrong[1]} is {wrong[4]!r}; it must be {what}."
    return message

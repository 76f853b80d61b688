"""The help of one class of a config: `--model VSAE --model.help`, `--data.text.help TextFiles`, and their like."""

import re

from jsonargparse import ArgumentParser

import vsae_lightning
from vsae_lightning.errors import InputError, did_you_mean
from vsae_lightning.trust import resolve

HELP = re.compile(r"--(?P<group>[\w.]+)\.help(=(?P<name>.+))?")
# What a class takes that nobody gives on the command line.
GIVEN = {"d_in", "params", "optimizer"}


def class_help(options: list[str]) -> str | None:
    """The options of the class that is asked about, with their units and defaults; None where none is.

    The class stands behind `.help`, or behind the option itself, before or after.

    Raises:
        InputError: No class is named, or there is none of this name.
    """
    for place, option in enumerate(options):
        asked = HELP.fullmatch(option)
        if asked is None:
            continue
        group = asked["group"].replace(".init_args", "")
        following = options[place + 1] if place + 1 < len(options) else ""
        name = asked["name"] or ("" if following.startswith("-") else following) or _given(group, options)
        if not name:
            raise InputError(f"{option} asks about a class: give --{group} CLASS, or {option} CLASS.")
        return _help_of(_class(name, group), group)
    return None


def _given(group: str, options: list[str]) -> str:
    """The class that stands behind the option itself."""
    for option, value in zip(options, [*options[1:], ""], strict=True):
        name, _, joined = option.lstrip("-").partition("=")
        if name.replace(".init_args", "").removesuffix(".class_path") == group and option.startswith("--"):
            return joined or value
    return ""


def _class(name: str, group: str) -> type:
    if name not in vsae_lightning.__all__ and "." not in name:
        known = [one for one in vsae_lightning.__all__ if one[0].isupper()]
        raise InputError(f"{group}: there is no class {name!r}.{did_you_mean(name, known)}")
    return resolve(name, group, (name.partition(".")[0],))  # the user typed it


def _help_of(cls: type, group: str) -> str:
    parser = ArgumentParser(
        prog=f"--{group} {cls.__name__}", usage=f"--{group} {cls.__name__} [--{group}.OPTION VALUE ...]"
    )
    parser.add_class_arguments(cls, group, skip=GIVEN, fail_untyped=False)
    return parser.format_help()

"""The settings of a run, flat, apart from its seeds; and the short names of those that differ."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vsae_lightning.runs import INCIDENTAL, OF_THE_TRAINER

# What a name says of every run that has it, differing or not.
ALWAYS = ("sigma", "sparsifier.k")
K = "sparsifier.k"
OWN_CLASS = "class"

Settings = dict[str, Any]


def settings_of(config: dict[str, Any], member: str | None) -> tuple[Settings, tuple[Any, ...]]:
    """What decides a run but for chance, by dotted name; and its seeds: of everything, the module, the data."""
    model, data, trainer = (config.get(name) or {} for name in ("model", "data", "trainer"))
    if member is not None:
        model = model["init_args"]["members"][member]
    named = {**_of_class(model, ""), **_of_class(data, "data")}
    named |= {f"trainer.{option}": trainer.get(option) for option in ("max_steps", *OF_THE_TRAINER)}
    seeds = (config.get("seed_everything"), named.pop("seed", None), named.pop("data.seed", None))
    return {name: value for name, value in named.items() if name.rpartition(".")[2] not in INCIDENTAL}, seeds


def members_of(config: dict[str, Any]) -> list[str]:
    """The names of the members of an ensemble; of a run that is none, none."""
    members = ((config.get("model") or {}).get("init_args") or {}).get("members")
    return [str(name) for name in members] if isinstance(members, dict) else []


def described(description: dict[str, Any], name: str) -> Settings:
    """Those of an exported autoencoder, which knows its parts and not its training, so that it is like no other."""
    return {**_of_class(description, ""), OWN_CLASS: name}


def identity(settings: Settings) -> str:
    """Equal for equal settings."""
    return json.dumps(settings, sort_keys=True, default=str)


def differing(several: Sequence[Settings]) -> list[str]:
    """The names, in the order of the configuration, whose values are not the same in all that have them."""
    names = list(dict.fromkeys(name for settings in several for name in settings))
    return [name for name in names if len({identity({"": s[name]}) for s in several if name in s}) > 1]


def short_names(several: Sequence[Settings]) -> list[tuple[str, str]]:
    """Of each: its class and what tells it from others of its class; and the same without its k."""
    return [_short_name(settings, several) for settings in several]


def _short_name(settings: Settings, several: Sequence[Settings]) -> tuple[str, str]:
    own = str(settings.get(OWN_CLASS, "?"))
    alike = [other for other in several if other.get(OWN_CLASS) == settings.get(OWN_CLASS)]
    telling = differing(alike)
    shown = [name for name in settings if name in telling or (name in ALWAYS and settings[name] is not None)]
    family = " ".join([own, *(_option(name, settings[name], settings) for name in shown if name != K)])
    return f"{family} {_option(K, settings[K], settings)}" if K in shown else family, family


def _option(name: str, value: Any, settings: Settings) -> str:
    """`k=32`: by the last part of its name, or the last two where others have that too."""
    last = name.rpartition(".")[2]
    ambiguous = sum(other.rpartition(".")[2] == last for other in settings) > 1
    label = ".".join(name.split(".")[-2:]) if ambiguous else last
    return f"{label}={_short(value)}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ",".join(_short(entry) for entry in value)
    text = str(value)
    return Path(text).name if "/" in text else text


def printable(text: str) -> str:
    """On one line of any terminal: characters that move the cursor or cannot be written become `?`."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _of_class(spec: dict[str, Any], place: str) -> Settings:
    return dict(_flat(spec, place))


def _flat(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Every plain value below its dotted name; a class has its own name there."""
    if not isinstance(value, dict):
        yield place, value
        return
    named = value.get("class_path", value.get("class_name"))
    if named is not None:
        yield place or OWN_CLASS, str(named).rpartition(".")[2]
        value = value.get("init_args") or {}
    for name, entry in value.items():
        yield from _flat(entry, f"{place}.{name}" if place else str(name))

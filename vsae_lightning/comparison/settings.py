"""The settings of a run, flat, apart from its seeds; and the short names of those that differ."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vsae_lightning.interop.public import is_of_this_machine, public_value
from vsae_lightning.runs import INCIDENTAL, OF_THE_TRAINER

# What a name says of every run that has it, differing or not.
K = "sparsifier.k"
ALWAYS = ("sigma", K)
MAX_TELLING = 2
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
    """The names that may be published, in the order of the configuration, whose values are not the same in all that
    have them."""
    names = list(dict.fromkeys(name for settings in several for name in settings if not is_of_this_machine(name)))
    return [name for name in names if len({identity({"": s[name]}) for s in several if name in s}) > 1]


def short_names(several: Sequence[Settings]) -> list[tuple[str, str]]:
    """Of each: its class and what tells it from others of its class; and the same without k, which names a family.

    A family is of groups that differ in k alone; the family of a single one has its name.
    """
    names = [_name(settings, _telling(settings, several)) for settings in several]
    but_for_k = [identity({name: value for name, value in s.items() if name != K}) for s in several]
    without_k = [_name(s, [name for name in _telling(s, several) if name != K]) for s in several]
    shared = {
        name: {key for key, other in zip(but_for_k, without_k, strict=True) if other == name} for name in without_k
    }
    return [
        (name, family if but_for_k.count(key) > 1 and len(shared[family]) == 1 else name)
        for name, family, key in zip(names, without_k, but_for_k, strict=True)
    ]


def _telling(settings: Settings, several: Sequence[Settings]) -> list[str]:
    """The options in a name: all that differ within its class where these are few, else as many as tell all apart."""
    alike = [other for other in several if other.get(OWN_CLASS) == settings.get(OWN_CLASS)]
    candidates = differing(alike)
    chosen = [name for name in ALWAYS if any(other.get(name) is not None for other in alike)]
    if len(set(candidates) - set(chosen)) <= MAX_TELLING:
        chosen += candidates
    while candidates and _kinds(alike, chosen) < len(alike):
        best = max(candidates, key=lambda name: _kinds(alike, [*chosen, name]))
        chosen.append(best)
        candidates.remove(best)
    return [*(name for name in settings if name in chosen and name != K), *([K] if K in settings else [])]


def _kinds(several: Sequence[Settings], names: Sequence[str]) -> int:
    """How many of them can be told apart by these options."""
    return len({identity({name: settings.get(name) for name in names}) for settings in several})


def _name(settings: Settings, shown: Sequence[str]) -> str:
    return " ".join([public_value(str(settings.get(OWN_CLASS, "?"))), *(_option(name, settings) for name in shown)])


def _option(name: str, settings: Settings) -> str:
    """`k=32`: by the last part of its name, or the last two where others have that too."""
    last = name.rpartition(".")[2]
    ambiguous = sum(other.rpartition(".")[2] == last for other in settings) > 1
    label = ".".join(name.split(".")[-2:]) if ambiguous else last
    return f"{label}={_short(public_value(settings[name], last))}"


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

"""Settings of a stranger, checked class by class before the parser sees them.

A spec is `{class_path: ..., init_args: {...}}`. An option that takes an object must hold such a spec, or nothing: the
parser would read a string there as the name of a class or of another file of settings.
"""

import math
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vsae_lightning.errors import InputError
from vsae_lightning.trust import Trust, resolve

INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"
PLAIN = (str, int, float, bool, NoneType, Path, Any)
CONTAINERS = (list, tuple, dict, set, Union, UnionType)
KEYS = {"class_path", "init_args"}

Class = TypeVar("Class")


def require_trusted_module(checkpoint: Path, hyper_parameters: dict[str, Any], own: type, trust: Trust = ()) -> None:
    """Refuse hyper-parameters that name classes which the user does not trust, other than the class `own`.

    Raises:
        InputError: With the name, and how to trust its package.
    """
    options = dict(hyper_parameters)
    instantiator, name = options.pop("_instantiator", INSTANTIATOR), options.pop("_class_path", None)
    if instantiator != INSTANTIATOR:
        raise InputError(
            f"{checkpoint}: its hyper-parameters name the _instantiator {instantiator!r}, not Lightning's."
        )
    if name not in (None, f"{own.__module__}.{own.__qualname__}"):
        resolve(str(name), f"{checkpoint}: hyper_parameters", trust)
    _require_trusted_options(own, options, f"{checkpoint}: hyper_parameters", trust)


def require_trusted_spec(spec: Any, place: str, base: type[Class], trust: Trust = ()) -> type[Class]:
    """The class of a spec, whose options hold plain values and trusted specs only.

    Args:
        spec: Plain values, as YAML gives them.
        place: What is named in an error.
        base: What the class must be derived from.
        trust: Packages that the user trusts.

    Raises:
        InputError: The spec is none, or names a class of elsewhere, anywhere in it.
    """
    found = _class_of(spec, place, trust)
    if not issubclass(found, base):
        raise InputError(f"{place}: {found.__name__} is not a {base.__name__}.")
    return found


def _class_of(spec: Any, place: str, trust: Trust) -> type:
    if not isinstance(spec, dict) or not isinstance(spec.get("class_path"), str) or not spec.keys() <= KEYS:
        raise InputError(f"{place} must be class_path and init_args; it is {_short(spec)}.")
    found = resolve(spec["class_path"], place, trust)
    options = spec.get("init_args")
    if not isinstance(options, dict | None):
        raise InputError(f"{place}.init_args must be `option: value` lines; it is {_short(options)}.")
    _require_trusted_options(found, options or {}, place, trust)
    return found


def _require_trusted_options(owner: type, options: dict[str, Any], place: str, trust: Trust) -> None:
    objects = _options_of_objects(owner)
    for name, value in options.items():
        # An option that is not known here is the parser's to judge, and may be one of objects.
        if objects.get(name, True):
            _require_trusted_value(value, f"{place}.{name}", trust)
        else:
            _require_finite(value, f"{place}.{name}")


def _require_trusted_value(value: Any, place: str, trust: Trust) -> None:
    """Check the value of an option of objects: a spec, specs by name or in a list, or a value that is no text."""
    if isinstance(value, dict) and "class_path" in value:
        _class_of(value, place, trust)
    elif isinstance(value, dict | list | tuple):
        for name, entry in value.items() if isinstance(value, dict) else enumerate(value):
            _require_trusted_value(entry, f"{place}.{name}", trust)
    elif isinstance(value, str):
        resolve(value, place, trust)
        if Path(value).exists():
            raise InputError(f"{place} is {value!r}, which is also a file here; give class_path and init_args.")
    else:
        _require_finite(value, place)


def _require_finite(value: Any, place: str) -> None:
    for number in _leaves(value):
        if isinstance(number, float) and not math.isfinite(number):
            raise InputError(f"{place} is {number}; it must be finite.")


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list | tuple):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _leaves(entry)
    else:
        yield value


def _options_of_objects(owner: type) -> dict[str, bool]:
    """Whether each option of a class takes objects, not plain values alone, by the name of the option."""
    names = signature(owner).parameters
    try:
        hints = get_type_hints(owner.__init__)
    except (NameError, TypeError, AttributeError):  # a user's class may have types that cannot be looked up
        return {}
    return {name: name not in hints or not _is_plain(hints[name]) for name in names}


def _is_plain(kind: Any) -> bool:
    if get_origin(kind) is Literal or kind in PLAIN:
        return True
    return get_origin(kind) in CONTAINERS and all(_is_plain(part) for part in get_args(kind) if part is not ...)


def _short(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 40 else f"{repr(value)[:40]}..."

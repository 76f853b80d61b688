"""YAML files of settings, looked through before anything acts on them."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from vsae_lightning.errors import InputError

MAX_BYTES = 10_000_000
CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")
MAX_VALUES = 100_000
PLAIN_TAGS = ("null", "bool", "int", "float", "str", "seq", "map", "merge")
# As the parser of options reads numbers: 1e-4 is one, which YAML 1.1 takes for text.
FLOAT = re.compile(
    r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
    |\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)


class SettingsLoader(yaml.SafeLoader):
    """Makes dict, list, str, int, float, bool and None, and nothing else: no dates, no bytes, no sets."""

    yaml_implicit_resolvers = {  # noqa: RUF012, as PyYAML declares it
        letter: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float", ":value"))]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


SettingsLoader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))


def read_configs(options: list[str]) -> None:
    """Read every file that `--config` names, so that a bad one is refused in words.

    Raises:
        InputError: A file that is not there, or is no YAML mapping of settings.
    """
    for path in _named(options):
        read_config(path)


def read_config(path: Path) -> dict[str, Any]:
    """The settings of one YAML file, built of nothing but plain values.

    Raises:
        InputError: There is no such file, it cannot be read, or it is no YAML mapping of a sensible size.
    """
    text = _text(path)
    try:
        document = yaml.compose(text, SettingsLoader)
        if not isinstance(document, yaml.MappingNode):
            raise InputError(f"--config: {str(path)!r} {_what(document)}; give `option: value` lines.")
        _require_sensible(path, document)
        content: dict[str, Any] = yaml.load(text, SettingsLoader)
        _require_structure(path, content)
    except yaml.MarkedYAMLError as error:
        raise InputError(f"--config: {str(path)!r} is not YAML: {_complaint(error)}.") from None
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"--config: {str(path)!r} is not YAML: {error}") from None
    return content


def _named(options: list[str]) -> Iterator[Path]:
    yield from (Path(value) for option, value in pairwise(options) if option == "--config")
    yield from (Path(option.partition("=")[2]) for option in options if option.startswith("--config="))


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            what = "is a folder; give a file in it" if path.is_dir() else "does not exist"
            raise InputError(f"--config: {str(path)!r} {what}.")
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"--config: {str(path)!r} has more than {MAX_BYTES:,} bytes, too many for settings.")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"--config: {str(path)!r} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"--config: {str(path)!r} is not UTF-8 text (byte {error.start}).") from None


def _what(document: yaml.Node | None) -> str:
    if document is None:
        return "is empty"
    if isinstance(document, yaml.SequenceNode):
        return "is a list"
    return f"holds only the text {str(document.value)[:40]!r}"


def _require_sensible(path: Path, document: yaml.Node) -> None:
    """Refuse a key given twice, and aliases of aliases that unfold to more than memory holds."""
    count = 0
    waiting: list[tuple[yaml.Node, int]] = [(document, 0)]
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if count > MAX_VALUES or depth > 100:
            raise InputError(f"--config: {str(path)!r} unfolds to too many values (&anchors and *aliases of it).")
        if node.tag.removeprefix("tag:yaml.org,2002:") not in PLAIN_TAGS:
            raise InputError(f"--config: {str(path)!r} holds a value tagged {node.tag!r}; give plain values.")
        if isinstance(node, yaml.MappingNode):
            _require_each_once(path, node)
            waiting += [(child, depth + 1) for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(child, depth + 1) for child in node.value]


def _require_each_once(path: Path, mapping: yaml.MappingNode) -> None:
    lines: dict[str, int] = {}
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            raise InputError(f"--config: {str(path)!r} has a list or a mapping as a name; give `option: value` lines.")
        name, line = str(key.value), key.start_mark.line + 1
        if name in lines and name != "<<":
            raise InputError(f"--config: {str(path)!r} has {name!r} twice, in lines {lines[name]} and {line}.")
        lines[name] = line


def _require_structure(path: Path, content: dict[str, Any]) -> None:
    """Refuse what the parser would pass over, or say in the words of Python."""
    for name, value in content.items():
        if isinstance(value, list) or (name == "trainer" and not isinstance(value, dict | None)):
            raise _misplaced(path, name, value)
    for place, spec in _class_specs(content, ""):
        if not isinstance(spec["class_path"], str):
            raise InputError(
                f"--config: {str(path)!r}: {place}.class_path is {_short(spec['class_path'])}, not a name."
            )
        if beside := sorted(str(name) for name in spec if name not in CLASS_KEYS):
            raise InputError(f"--config: {str(path)!r}: {place}.{beside[0]} belongs below {place}.init_args.")
        if not isinstance(spec.get("init_args", {}), dict):
            raise _misplaced(path, f"{place}.init_args", spec["init_args"])


def _misplaced(path: Path, option: str, value: Any) -> InputError:
    return InputError(f"--config: {str(path)!r}: {option} is {_short(value)}; give `option: value` lines below it.")


def _class_specs(value: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a `class_path`, and where it is."""
    if isinstance(value, dict):
        if "class_path" in value:
            yield place, value
        for name, entry in value.items():
            yield from _class_specs(entry, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list):
        for entry in value:
            yield from _class_specs(entry, place)


def _short(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 40 else f"{repr(value)[:40]}..."


def _complaint(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{place}{error.problem or error.context}"

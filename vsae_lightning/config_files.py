"""YAML files of settings, looked through before anything acts on them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from vsae_lightning.errors import InputError

MAX_BYTES = 10_000_000
OF_THE_DATA = "the data decide the width of the activations (data.model_name, data.hook_name); leave it out."
CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")
MAX_VALUES = 100_000
MAX_DIGITS = 40
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


def read_configs(options: list[str]) -> list[str]:
    """Read every file that `--config` names, so that a bad one is refused in words.

    Returns:
        The options; a pipe, as of `--config <(...)`, which can be read once only, is replaced by what it gave.

    Raises:
        InputError: A file that is not there, is no YAML mapping of settings, or gives what the data give.
    """
    read = list(options)
    for place, path in _named(options):
        if path.is_fifo():
            text = path.read_text(encoding="utf-8")
            read[place] = f"--config={text}" if options[place].startswith("--config=") else text
            content = parse_settings(str(path), text)
        else:
            content = read_config(path)
        model = content.get("model")
        init_args = model.get("init_args") if isinstance(model, dict) else None
        if isinstance(init_args, dict) and "d_in" in init_args:
            raise InputError(f"--config: {str(path)!r}: model.d_in is {init_args['d_in']}, but {OF_THE_DATA}")
    for option in options:
        if option.partition("=")[0] in ("--model.d_in", "--model.init_args.d_in"):
            raise InputError(f"{option.partition('=')[0]}: {OF_THE_DATA}")
    return read


def read_config(path: Path) -> dict[str, Any]:
    """The settings of one YAML file, built of nothing but plain values.

    Raises:
        InputError: There is no such file, it cannot be read, or it is no YAML mapping of a sensible size.
    """
    return parse_settings(str(path), _text(path))


def parse_settings(name: str, text: str) -> dict[str, Any]:
    """The settings in a text of YAML.

    Args:
        name: Of the file, for an error.
        text: Its content.

    Raises:
        InputError: It is no YAML mapping of a sensible size.
    """
    try:
        document = yaml.compose(text, SettingsLoader)
        if not isinstance(document, yaml.MappingNode):
            raise InputError(f"--config: {name!r} {_what(document)}; give `option: value` lines.")
        _require_sensible(name, document)
        content: dict[str, Any] = yaml.load(text, SettingsLoader)
        _require_structure(name, content)
    except yaml.MarkedYAMLError as error:
        raise InputError(f"--config: {name!r} is not YAML: {_complaint(error)}.") from None
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"--config: {name!r} is not YAML: {error}") from None
    return content


def _named(options: list[str]) -> Iterator[tuple[int, Path]]:
    """Where an option names a file of settings, and the file."""
    for place, option in enumerate(options):
        if option.startswith("--config="):
            yield place, Path(option.partition("=")[2])
        elif option == "--config" and place + 1 < len(options):
            yield place + 1, Path(options[place + 1])


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


def _require_sensible(file: str, document: yaml.Node) -> None:
    """Refuse a key given twice, and aliases of aliases that unfold to more than memory holds."""
    count = 0
    waiting: list[tuple[yaml.Node, int]] = [(document, 0)]
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if count > MAX_VALUES or depth > 100:
            raise InputError(f"--config: {file!r} unfolds to too many values (&anchors and *aliases of it).")
        if node.tag.removeprefix("tag:yaml.org,2002:") not in PLAIN_TAGS:
            raise InputError(f"--config: {file!r} holds a value tagged {node.tag!r}; give plain values.")
        if node.tag == "tag:yaml.org,2002:int" and len(node.value) > MAX_DIGITS:
            raise InputError(f"--config: {file!r} holds a number of {len(node.value):,} digits; give a smaller one.")
        if isinstance(node, yaml.MappingNode):
            _require_each_once(file, node)
            waiting += [(child, depth + 1) for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(child, depth + 1) for child in node.value]


def _require_each_once(file: str, mapping: yaml.MappingNode) -> None:
    lines: dict[str, int] = {}
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            raise InputError(f"--config: {file!r} has a list or a mapping as a name; give `option: value` lines.")
        name, line = str(key.value), key.start_mark.line + 1
        if name in lines and name != "<<":
            raise InputError(f"--config: {file!r} has {name!r} twice, in lines {lines[name]} and {line}.")
        lines[name] = line


def _require_structure(file: str, content: dict[str, Any]) -> None:
    """Refuse what the parser would pass over, or say in the words of Python."""
    for name, value in content.items():
        if isinstance(value, list) or (name == "trainer" and not isinstance(value, dict | None)):
            raise _misplaced(file, name, value)
    for place, spec in _class_specs(content, ""):
        if not isinstance(spec["class_path"], str):
            raise InputError(f"--config: {file!r}: {place}.class_path is {_short(spec['class_path'])}, not a name.")
        if beside := sorted(str(name) for name in spec if name not in CLASS_KEYS):
            raise InputError(f"--config: {file!r}: {place}.{beside[0]} belongs below {place}.init_args.")
        if not isinstance(spec.get("init_args", {}), dict):
            raise _misplaced(file, f"{place}.init_args", spec["init_args"])


def _misplaced(file: str, option: str, value: Any) -> InputError:
    return InputError(f"--config: {file!r}: {option} is {_short(value)}; give `option: value` lines below it.")


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

"""What jsonargparse says of a bad option, in one line a user can act on."""

import inspect
import re
from importlib import import_module

from lightning.pytorch import LightningDataModule, LightningModule

import vsae_lightning
from vsae_lightning.autoencoders.priors import Prior
from vsae_lightning.autoencoders.sparsifiers import Sparsifier
from vsae_lightning.data.text import TextSource
from vsae_lightning.errors import did_you_mean
from vsae_lightning.modules.base import AutoencoderModule

BASES = {
    "model": LightningModule,
    "members": AutoencoderModule,
    "data": LightningDataModule,
    "sparsifier": Sparsifier,
    "prior": Prior,
    "text": TextSource,
}
PLACE = r'Parser key "([\w.]+)":'


def explain(message: str, command: str, options: list[str]) -> str:
    """The innermost complaint of a message that nests every type that was tried, about one of `options`."""
    message = " ".join(message.split())
    if lacking := re.search(r"arguments are required: ([\w, ]+)\. Got value: .*?class_path='[\w.]*?(\w+)'", message):
        return f"{'.'.join(re.findall(PLACE, message))}: {lacking[2]} needs {lacking[1]}."
    if missing := re.search(r"arguments are required: (.*)", message):
        absent = missing[1].replace(f"{command}.", "--")
        return f"{absent} is missing: give --config FILE.yaml, e.g. configs/quickstart.yaml."
    keys = re.findall(PLACE, message)
    place = ".".join(keys)
    if unknown := re.search(r"class_path '([\w.]+)': (?:Option|Key) '([\w.]+)' is not (?:accepted|expected)", message):
        name = unknown[1].rsplit(".", 1)[-1]
        return f"{place}: {name} has no option {unknown[2]!r}.{did_you_mean(unknown[2], _options(unknown[1]))}"
    if no_class := re.search(
        r"(?:Expected a dot import path string: |No module named |Unable to import )(\S+)", message
    ):
        name, known = no_class[1].strip("'\"."), _classes(keys[-1] if keys else "")
        choices = f" Known: {', '.join(known)}." if known else ""
        return f"{place}: there is no class {name!r}.{choices}{did_you_mean(name, known)}"
    if wrong := re.search(r"Expected a (?:<class '([\w.]+)'>|typing\.([\w\[\]', ]+?))\. Got value: (\S+)", message):
        return f"{place} is {wrong[3].rstrip('.')!r}; it must be of type {wrong[1] or wrong[2]}."
    if union := re.search(r".*Subtypes: \[(.*?)\] Errors: - Expected .*?Given value: (\S+)", message):
        choices = union[1].replace("<class '", "").replace("'>", "").replace("typing.", "")
        return f"{place} is {union[2]!r}; it must be one of: {choices}."
    if refused := re.search(r"Option '(\w+)' is not accepted\. Got value: .*?class_path='([\w.]+)'", message):
        name = refused[2].rsplit(".", 1)[-1]
        near = did_you_mean(refused[1], _options(refused[2]))
        return f"{place}: {name} has no option {refused[1]!r}.{near}"
    if stray := re.search(r"unrecognized arguments: --([\w.]+)", message):
        typed = next((option for option in options if stray[1] in option), f"--{stray[1]}").split("=")[0]
        group, _, path = typed.lstrip("-").partition(".")
        owners = (
            ["lightning.pytorch.Trainer"] if group == "trainer" else [f"vsae_lightning.{c}" for c in _classes(group)]
        )
        names = {name for owner in owners for name in _options(owner)}
        return f"there is no option {typed}.{did_you_mean(path.split('.')[0], sorted(names))}"
    if keys and (nested := re.search(r"NestedArg\(key='([\w.]+)', val=(.*?)\)", message)):
        return f"{keys[0]}.{nested[1]} cannot be set to {nested[2]}: no such member or option, or not such a value."
    return message


def _classes(option: str) -> list[str]:
    """The public classes that an option may name."""
    if option not in BASES:
        return []
    public = {name: getattr(vsae_lightning, name) for name in vsae_lightning.__all__}
    return [
        name
        for name, value in public.items()
        if isinstance(value, type) and issubclass(value, BASES[option]) and not inspect.isabstract(value)
    ]


def _options(class_path: str) -> list[str]:
    module, name = class_path.rsplit(".", 1)
    return list(inspect.signature(getattr(import_module(module), name)).parameters)

"""What jsonargparse says of a bad option, in one line a user can act on."""

import inspect
import re
from importlib import import_module

from vsae_lightning.errors import did_you_mean

OWNERS = {
    "trainer": ("lightning.pytorch.Trainer",),
    "model": ("vsae_lightning.SAE", "vsae_lightning.VSAE"),
    "data": ("vsae_lightning.ActivationDataModule",),
}
CLASSES = {
    "model": ("SAE", "VSAE"),
    "data": ("ActivationDataModule",),
    "sparsifier": ("ReLU", "TopK"),
    "prior": ("StandardNormal",),
    "text": ("BundledText", "HuggingFaceText", "TextFiles"),
}


def explain(message: str, command: str, options: list[str]) -> str:
    """The innermost complaint of a message that nests every type that was tried, about one of `options`."""
    message = " ".join(message.split())
    if missing := re.search(r"arguments are required: (.*)", message):
        absent = missing[1].replace(f"{command}.", "--")
        return f"{absent} is missing: give --config FILE.yaml, e.g. configs/quickstart.yaml."
    keys = re.findall(r'Parser key "([\w.]+)":', message)
    place = ".".join(keys)
    if unknown := re.search(r"class_path '([\w.]+)': (?:Option|Key) '([\w.]+)' is not (?:accepted|expected)", message):
        name = unknown[1].rsplit(".", 1)[-1]
        return f"{place}: {name} has no option {unknown[2]!r}.{did_you_mean(unknown[2], _options(unknown[1]))}"
    if no_class := re.search(
        r"(?:Expected a dot import path string: |No module named |Unable to import )(\S+)", message
    ):
        name, known = no_class[1].strip("'\""), CLASSES.get(keys[-1] if keys else "", ())
        choices = f" Known: {', '.join(known)}." if known else ""
        return f"{place}: there is no class {name!r}.{choices}{did_you_mean(name, known)}"
    if wrong := re.search(r"Expected a (?:<class '([\w.]+)'>|typing\.([\w\[\]', ]+?))\. Got value: (\S+)", message):
        return f"{place} is {wrong[3]!r}; it must be of type {wrong[1] or wrong[2]}."
    if stray := re.search(r"unrecognized arguments: --([\w.]+)", message):
        typed = next((option for option in options if stray[1] in option), f"--{stray[1]}").split("=")[0]
        group, _, path = typed.lstrip("-").partition(".")
        names = {name for owner in OWNERS.get(group, ()) for name in _options(owner)}
        return f"there is no option {typed}.{did_you_mean(path.split('.')[0], sorted(names))}"
    return message


def _options(class_path: str) -> list[str]:
    module, name = class_path.rsplit(".", 1)
    return list(inspect.signature(getattr(import_module(module), name)).parameters)

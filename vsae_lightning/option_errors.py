"""What jsonargparse says of a bad option, in one line a user can act on."""

import inspect
import re
import textwrap
from importlib import import_module

from lightning.pytorch import LightningDataModule, LightningModule

import vsae_lightning
from vsae_lightning.autoencoders.priors import Prior
from vsae_lightning.autoencoders.sparsifiers import Sparsifier
from vsae_lightning.data.text import TextSource
from vsae_lightning.errors import did_you_mean
from vsae_lightning.modules.base import AutoencoderModule
from vsae_lightning.trust import PACKAGES

BASES = {
    "model": LightningModule,
    "members": AutoencoderModule,
    "data": LightningDataModule,
    "sparsifier": Sparsifier,
    "prior": Prior,
    "text": TextSource,
}
# What other libraries call an option, and where it is here.
MEANT = {
    "model.k": "model.sparsifier.k",
    "model.lr": "model.optimizer.lr",
    "model.learning_rate": "model.optimizer.lr",
    "model.l1_coefficient": "model.sparsity_weight",
    "model.expansion_factor": "model.d_sae",
    "model.width": "model.d_sae",
    "model.batch_size": "data.batch_size",
    "data.model": "data.model_name",
    "data.hook": "data.hook_name",
    "data.layer": "data.hook_name",
    "data.hook_point": "data.hook_name",
    "data.dataset": "data.text",
    "data.paths": "data.text.paths",
    "data.context_size": "data.context_length",
    "data.seq_len": "data.context_length",
    "data.bos": "data.prepend_bos",
    "trainer.lr": "model.optimizer.lr",
    "trainer.epochs": "trainer.max_steps",
    "trainer.seed": "seed_everything",
    "seed": "seed_everything",
    "lr": "model.optimizer.lr",
    "resume": "ckpt_path",
}
SAME = {"field": "column", "text_column": "column", "files": "paths", "data_files": "paths", "topk": "k"}
NOT_TYPED = ("d_in", "params", "optimizer", "kwargs", "args", "self")
FEW = 8
GROUPS = ("trainer", "model", "data", "checkpoint", "config", "ckpt_path", "seed_everything")
PLACE = r'Parser key "([\w.]+)":'


def explain(message: str, command: str, options: list[str]) -> str:
    """The innermost complaint of a message that nests every type that was tried, about one of `options`."""
    message = " ".join(message.split())
    if needing := re.search(r"class_path '([\w.]+)': the following arguments are required: ([\w, ]+)", message):
        return f"{'.'.join(re.findall(PLACE, message))}: {_name(needing[1])} needs {needing[2].strip()}."
    if denied := re.search(r"Importing '([\w.]+)' is not allowed", message):
        place, package = ".".join(re.findall(PLACE, message)), denied[1].partition(".")[0]
        return (
            f"{place}: {denied[1]!r} is not a class of {', '.join(PACKAGES)}; beside RUN, give --trust {package} "
            "for a package of yours."
        )
    if lacking := re.search(r"arguments are required: ([\w, ]+?)(?:\. Got| - Exp).*?class_path='([\w.]+)'", message):
        return f"{'.'.join(re.findall(PLACE, message))}: {_name(lacking[2])} needs {lacking[1]}."
    if missing := re.search(r"arguments are required: (.*)", message):
        absent = missing[1].replace(f"{command}.", "--")
        return f"{absent} is missing: give --config FILE.yaml, e.g. configs/quickstart.yaml."
    keys = re.findall(PLACE, message)
    place = ".".join(keys)
    if unknown := re.search(r"class_path '([\w.]+)': (?:Option|Key) '([\w.]+)' is not (?:accepted|expected)", message):
        meant = MEANT.get(f"{place}.{unknown[2]}")
        instead = f" Did you mean --{meant}?" if meant else ""
        return (
            f"{place}: {_name(unknown[1])} has no option {unknown[2]!r}.{instead}"
            if meant
            else (f"{place}: {_has_no_option(unknown[1], unknown[2])}")
        )
    if scalar := re.search(r"Expected a <class '(\w+)'> - Expected a dot import path string: (\S+)", message):
        return f"{place} is {scalar[2]!r}; it must be of type {scalar[1]}."
    if foreign := re.search(r"Import path does not correspond to a subclass of (\w+) .*?Given value: (\S+)", message):
        return f"{place}: {foreign[2]!r} is not a {foreign[1]}; give class_path{_known(keys)}."
    if absent_class := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message):
        near = did_you_mean(absent_class[2], dir(import_module(absent_class[1])))
        return f"{place}: there is no class '{absent_class[1]}.{absent_class[2]}'.{near}"
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
        return f"{place}: {_has_no_option(refused[2], refused[1])}"
    if stray := re.search(r"unrecognized arguments: --([\w.]+)", message):
        return _no_option(next((option for option in options if stray[1] in option), f"--{stray[1]}").split("=")[0])
    if in_file := re.search(r"does not accept option '([\w.]+)'", message):
        return _no_option(f"--{in_file[1]}")
    if no_file := re.search(r"Unable to load config '(.*?)'", message):
        return f"{place} is {no_file[1]!r}; give options below it, one by one."
    if classless := re.search(r"Not a valid subclass of (\w+) .*? Given value: (.*?)(?: - Expected a |$)", message):
        given = textwrap.shorten(classless[2], 60, placeholder="...")
        return f"{place} is {given}, not a {classless[1]}; give class_path{_known(keys)} and init_args."
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


def _no_option(typed: str) -> str:
    """That an option does not exist, with those that are near in writing or in meaning, or all where they are few."""
    group, _, path = typed.lstrip("-").partition(".")
    first = path.removeprefix("init_args.").split(".")[0]
    if meant := MEANT.get(f"{group}.{first}") or MEANT.get(first or group):
        return f"there is no option {typed}. Did you mean --{meant}?"
    owners = ["lightning.pytorch.Trainer"] if group == "trainer" else [f"vsae_lightning.{c}" for c in _classes(group)]
    names = {name for owner in owners for name in _options(owner)}
    near = did_you_mean(first, sorted(names)) if names else did_you_mean(group, GROUPS)
    return f"there is no option {typed}.{near}"


def _has_no_option(class_path: str, option: str) -> str:
    """That a class has no such option, with those that are near, or all where they are few."""
    known = [name for name in _options(class_path) if name not in NOT_TYPED]
    meant = SAME.get(option)
    near = f" Did you mean {meant}?" if meant in known else did_you_mean(option, known)
    listed = f" Its options are {', '.join(known)}." if not near and len(known) <= FEW else ""
    return f"{_name(class_path)} has no option {option!r}.{near}{listed}"


def _name(class_path: str) -> str:
    return class_path.rsplit(".", 1)[-1]


def _known(keys: list[str]) -> str:
    known = _classes(keys[-1] if keys else "")
    return f" (one of {', '.join(known)})" if known else ""

"""What of a run's config.yaml `validate`, `test` and `predict` act on; a stranger may have written the file.

Taken are the model, the data, the seed, and a few numbers. Callbacks, loggers, profilers, plugins, strategies and
folders to write to are not: an evaluation needs none of the training's.
"""

import json
import secrets
from glob import escape, glob
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

from vsae_lightning.config_files import read_config
from vsae_lightning.errors import InputError, printable
from vsae_lightning.origin import read_json
from vsae_lightning.redaction import without_removed
from vsae_lightning.runs import NamedRun
from vsae_lightning.trusted_specs import require_trusted_spec

# Sections of numbers, with the options that are taken and what each may be.
NUMBERS: dict[str, dict[str, tuple[type, ...]]] = {
    "trainer": {
        "limit_val_batches": (int, float),
        "limit_test_batches": (int, float),
        "limit_predict_batches": (int, float),
    },
    "loss_recovered": {"max_tokens": (int,), "test_max_tokens": (int,)},
}
PRECISIONS = ("32-true", "32", "bf16-mixed", "16-mixed", "64-true", "64")
MAX_DEVICES = 16  # a number of a stranger starts so many processes
WRITTEN_TO = ("cache_dir",)
FILES = ("paths", "path", "load_args")  # options of a text that hold paths


def as_options(settings: dict[str, Any]) -> str:
    """Settings of a run as one option of the parser, which gets values, not the file: what was checked is parsed."""
    # The parser first looks for a file of this name; the random line keeps anyone from having made one.
    return f"--config=# {secrets.token_hex(16)}\n{_flow_yaml(settings)}"


def settings_of_run(run: NamedRun) -> dict[str, Any]:
    """The settings of a run that an evaluation takes, plain values.

    Raises:
        InputError: There are none, they cannot be read, or they name a class that the user does not trust.
    """
    content = read_config(run.config)
    place = f"RUN: {str(run.config)!r}"
    taken: dict[str, Any] = {}
    for section, base in (("model", LightningModule), ("data", LightningDataModule)):
        spec: Any = content.get(section)
        found = require_trusted_spec(spec, f"{place}: {section}", base, run.trust)
        if found.__module__.startswith("lightning.pytorch."):  # its demonstrations download data
            raise InputError(f"{place}: {section} is {found.__name__}, which is not of vsae_lightning.")
        options = acted_on(spec.get("init_args") or {}, run.name)
        options = located(options, run.folder) if section == "data" else options
        taken[section] = {"class_path": spec["class_path"], "init_args": options}
    if type(seed := content.get("seed_everything")) in (int, bool):
        taken["seed_everything"] = seed
    for section, options in NUMBERS.items():
        given = content.get(section)
        found_here = {name: given.get(name) for name in options} if isinstance(given, dict) else {}
        taken[section] = {name: value for name, value in found_here.items() if type(value) in options[name]}
    taken["trainer"] |= _of_trainer(content.get("trainer"))
    return {section: values for section, values in taken.items() if values != {}}


def _of_trainer(given: Any) -> dict[str, Any]:
    trainer = given if isinstance(given, dict) else {}
    precision, devices = trainer.get("precision"), trainer.get("devices")
    taken = {"precision": precision} if str(precision) in PRECISIONS else {}
    return taken | ({"devices": devices} if type(devices) is int and 1 <= devices <= MAX_DEVICES else {})


def acted_on(options: dict[str, Any], run: str) -> dict[str, Any]:
    """Options of a model or a data module as RUN has them, without folders to write to, and without secrets.

    A folder is told of. A secret was removed when the run wrote its config.yaml; the environment has it, as HF_TOKEN.
    """
    for name in WRITTEN_TO:
        if (folder := options.get(name)) is not None:
            told = printable(f"{run} names {name} {folder!r}")
            print(f"note: {told}; a run chooses no folder to write to: give --{name} yourself")
    left: dict[str, Any] = without_removed({name: value for name, value in options.items() if name not in WRITTEN_TO})
    return left


def located(options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Options of a data module whose relative paths are found from elsewhere than the folder where the run was started.

    Args:
        options: With `model_name` and `text`.
        folder: Of the run, whose run.json says where the run was started.

    Raises:
        InputError: That file cannot be read.
    """
    record = read_json(folder / "run.json") if (folder / "run.json").is_file() else {}
    start = folder / str(record.get("started_from", ""))
    found = dict(options)
    try:
        is_elsewhere = "started_from" in record and start.resolve() != Path.cwd()
    except (OSError, ValueError, RuntimeError):  # no path, or links in a circle
        is_elsewhere = False
    if not is_elsewhere:
        return found
    if isinstance(found.get("model_name"), str):
        found["model_name"] = _located(found["model_name"], start)
    if isinstance(found.get("text"), dict) and isinstance(found["text"].get("init_args"), dict):
        init_args = found["text"]["init_args"]
        moved = {name: _located(value, start) for name, value in init_args.items() if name in FILES}
        found["text"] = found["text"] | {"init_args": init_args | moved}
    return found


def _located(path: Any, start: Path) -> Any:
    """A relative path, or several, as they lie seen from here; what is not there is left as it is."""
    if isinstance(path, list):
        return [_located(one, start) for one in path]
    if isinstance(path, dict):
        return {name: _located(one, start) for name, one in path.items()}
    if not isinstance(path, str) or Path(path).is_absolute() or path.startswith("~"):
        return path
    before_stars = path.partition("**")[0]  # which are not looked through before they are known to be harmless
    try:
        is_there = bool(glob(str(Path(escape(str(start))) / before_stars)))  # noqa: PTH207
    except (OSError, ValueError):
        is_there = False
    return str(start / path) if is_there else path


def _flow_yaml(settings: dict[str, Any]) -> str:
    """JSON that YAML reads alike: texts in quotes, and what YAML does not take as it is, as an escape."""
    text = json.dumps(settings, ensure_ascii=False)
    return "".join(character if character.isprintable() else f"\\U{ord(character):08x}" for character in text)

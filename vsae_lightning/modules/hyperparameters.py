"""Hyper-parameters as plain values, from which a module can be rebuilt."""

import warnings
from typing import Any

from lightning.pytorch import LightningModule

from vsae_lightning.autoencoders.parts import Part


def save_plain_hyperparameters(module: LightningModule, ignore: list[str]) -> None:
    """Keep the constructor's arguments in `module.hparams`; called in the constructor.

    The command line hands them over plain; a module built in Python describes its parts, and leaves
    out what is a function (optimizer, scheduler, members of an ensemble).
    """
    with warnings.catch_warnings():  # of modules among them, which are described below
        warnings.simplefilter("ignore")
        module.save_hyperparameters(ignore=ignore)
    plain = {
        name: _plain(value) for name, value in module.hparams.items() if isinstance(value, Part) or _is_plain(value)
    }
    plain.setdefault("_class_path", f"{type(module).__module__}.{type(module).__qualname__}")
    plain.setdefault("_instantiator", "lightning.pytorch.cli.instantiate_module")
    module.hparams.clear()  # saving adds to what is there
    module.save_hyperparameters(plain)


def _is_plain(value: Any) -> bool:
    values = value.values() if isinstance(value, dict) else [value]
    return not any(callable(entry) for entry in values)


def _plain(value: Any) -> Any:
    if not isinstance(value, Part):
        return value
    return {"class_path": f"{type(value).__module__}.{type(value).__qualname__}", "init_args": _nested(value)}


def _nested(part: Part) -> dict[str, Any]:
    return {name: _plain(getattr(part, name)) for name in part.init_args()}

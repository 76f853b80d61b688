"""Autoencoders on disk: read from a run folder, a checkpoint or an exported folder; write the last."""

import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.gates import Gated, JumpReLU
from vsae_lightning.autoencoders.matryoshka import Matryoshka
from vsae_lightning.autoencoders.shards import is_sharded, read_index, read_rest, read_whole
from vsae_lightning.autoencoders.sparsifiers import Dense, ReLU, Sparsifier
from vsae_lightning.autoencoders.topk import BatchTopK, ProbabilisticTopK, TopK
from vsae_lightning.autoencoders.torch_files import DTYPES, read_torch_file
from vsae_lightning.autoencoders.variational import VariationalAutoencoder
from vsae_lightning.errors import InputError
from vsae_lightning.files import record, replacing, require_file, write_json
from vsae_lightning.trust import Trust, resolve

CONFIG_FILE = "autoencoder.json"
WEIGHTS_FILE = "autoencoder.safetensors"
MAX_CONFIG_BYTES = 1_000_000
SINCE_LATER = "usage.first_fired"  # older checkpoints lack it, and modules do without
DATA_MODULES = ("ActivationDataModule", "SyntheticDataModule")  # whose state is in a checkpoint by that name
LOOPS = ("fit_loop", "validate_loop", "test_loop", "predict_loop")
VERSION = re.compile(r"\d+(\.\d+){0,3}((a|b|rc|\.dev|\.post)\d+)?(\+[\w.]+)?", re.ASCII)
AUTOENCODERS = {cls.__name__: cls for cls in (SparseAutoencoder, VariationalAutoencoder)}
SPARSIFIERS: dict[str, type[Any]] = {
    cls.__name__: cls for cls in (Dense, ReLU, JumpReLU, Gated, TopK, BatchTopK, ProbabilisticTopK, Matryoshka)
}


def load(
    path: str | Path, device: str | torch.device = "cpu", member: str | None = None, trust: Trust = ()
) -> SparseAutoencoder:
    """The autoencoder of a run, in the units of the raw activations, frozen and in eval mode.

    No language model is loaded and no code of the file is executed.

    Args:
        path: A run folder (its last checkpoint is read), a checkpoint, or a folder written by `save`.
        device: Where the weights go.
        member: Which member of an ensemble; None for a run that is none.
        trust: Packages of the user, whose classes the file may name.

    Raises:
        InputError: Nothing is there, it is not an autoencoder of this package, or an ensemble has no such member.
    """
    path = Path(path)
    if (path / CONFIG_FILE).is_file():
        return _load_exported(path, trust).to(device).requires_grad_(False)
    config, state = _member(path, read_checkpoint(find_checkpoint(path)), member)
    autoencoder = _restore(path, config, _under("autoencoder.", state), trust)
    autoencoder.fold_input_scaling(*_input_scaling(path, state, autoencoder.d_in))
    return autoencoder.to(device).requires_grad_(False)


def save(autoencoder: nn.Module, folder: str | Path, origin: dict[str, Any] | None = None) -> None:
    """Write an autoencoder as `autoencoder.json` and `autoencoder.safetensors`, for `load`.

    The former has size and SHA-256 of the latter, so that two halves of different exports are never taken for one.

    Args:
        autoencoder: In the units of the raw activations; it may be compiled.
        folder: Made if there is none.
        origin: What is to be kept of where it comes from, plain values.

    Raises:
        InputError: Something else than an autoencoder.
    """
    autoencoder = getattr(autoencoder, "_orig_mod", autoencoder)  # of torch.compile, which renames all weights
    if not isinstance(autoencoder, SparseAutoencoder):
        raise InputError(f"save: {type(autoencoder).__name__} is not an autoencoder; give what vl.load returns.")
    weights = Path(folder) / WEIGHTS_FILE
    with replacing(weights) as temporary:
        save_file({k: v.contiguous() for k, v in autoencoder.state_dict().items()}, temporary)
    kept = {} if origin is None else {"origin": origin}
    write_json(Path(folder) / CONFIG_FILE, {**autoencoder.config(), "weights": record(weights), **kept})


def find_checkpoint(path: Path) -> Path:
    """The checkpoint a user means by a checkpoint file or a run folder."""
    if is_checkpoint(path):
        return path
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give a run folder, a checkpoint or an exported folder.")
    checkpoint = path / "checkpoints" / "last.ckpt"
    if not is_checkpoint(checkpoint):
        raise InputError(
            f"{path}: holds neither checkpoints/last.ckpt nor {CONFIG_FILE}; give a run or exported folder."
        )
    return checkpoint


def is_checkpoint(path: Path) -> bool:
    """Whether this is a checkpoint by its kind: a file, or the folder of a sharded one."""
    return path.is_file() or is_sharded(path)


def read_checkpoint(path: Path, in_memory: bool = True) -> dict[str, Any]:
    """A checkpoint of this package, sharded or not, as an ordinary one, read without executing anything in it,
    and checked against its checksums.

    Args:
        path: A file, or the folder of a sharded checkpoint.
        in_memory: False: of a file, read tensors when they are used.

    Raises:
        InputError: It is torn, or not of this package.
    """
    checkpoint = _checked(path, read_whole(path) if is_sharded(path) else read_torch_file(path, in_memory))
    if empty := [name for name, value in checkpoint["state_dict"].items() if value is None]:
        raise InputError(f"{path}: a checkpoint without values for {_some(empty)}.")
    return checkpoint


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint for its settings: as `read_checkpoint`, but without what is sharded or large."""
    return _checked(path, read_rest(path) if is_sharded(path) else read_torch_file(path, in_memory=False))


def _checked(path: Path, checkpoint: Any) -> dict[str, Any]:
    if not isinstance(checkpoint, dict) or not _is_ours(checkpoint):
        raise InputError(f"{path}: a checkpoint, but not one of vsae_lightning.")
    shapes = {key: list(value.shape) for key, value in checkpoint["state_dict"].items() if value is not None}
    if is_sharded(path):
        shapes |= {str(sliced.place[-1]): list(sliced.shape) for sliced in read_index(path).tensors}
    for prefix, described in _described_modules(checkpoint["hyper_parameters"]):
        stored = shapes.get(f"{prefix}autoencoder.W_dec")
        sizes = [described.get("d_sae"), checkpoint["hyper_parameters"].get("d_in")]
        # A module of the described size would be built before its weights are looked at.
        fits = stored is not None and len(stored) == 2 and stored[0] == sizes[0] and sizes[1] in (stored[1], None)
        if not fits:
            raise InputError(
                f"{path}: the weights do not fit the hyper-parameters: d_sae, d_in are {sizes}, but W_dec is {stored}."
            )
    return checkpoint


def _described_modules(hyper_parameters: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The options of each module that hyper-parameters stand for, with the prefix of its state."""
    members = hyper_parameters.get("members")
    if not isinstance(members, dict):
        if "d_sae" in hyper_parameters:  # those of an ensemble built in Python do not have its members
            yield "", hyper_parameters
        return
    for name, spec in members.items():
        options = spec.get("init_args") if isinstance(spec, dict) else None
        yield f"arms.{name}.", options if isinstance(options, dict) else {}


def require_parts(path: Path, checkpoint: dict[str, Any], resume: bool) -> None:
    """Raise `InputError` for a checkpoint without a part that the trainer needs, to go on from it if `resume`."""
    of_training = ("optimizer_states", "lr_schedulers")
    kinds = {"global_step": int, "epoch": int, "loops": dict, "pytorch-lightning_version": str}
    kinds |= dict.fromkeys(of_training, list) | dict.fromkeys(("callbacks", *DATA_MODULES), dict)
    optional = ("callbacks", *DATA_MODULES, *(() if resume else of_training))
    for name, kind in kinds.items():
        absent = name in optional and name not in checkpoint
        if not absent and not isinstance(checkpoint.get(name), kind):
            raise InputError(f"{path}: a checkpoint without {name!r}; it is not whole, or was changed by hand.")
    loops = {name: checkpoint["loops"].get(name) for name in LOOPS}
    states = [*loops.values(), *checkpoint.get("callbacks", {}).values()]
    states += [state for name in of_training for state in checkpoint.get(name, ())]
    if not all(map(_is_named, states)) or not VERSION.fullmatch(checkpoint["pytorch-lightning_version"]):
        raise InputError(f"{path}: a checkpoint whose state is not one of Lightning; it was changed by hand.")


def require_state(path: Path, checkpoint: dict[str, Any], expected: dict[str, Tensor]) -> None:
    """Raise `InputError` where the state is not, by name, shape and kind, that of the module, or holds nan."""
    stored = {name: value for name, value in checkpoint["state_dict"].items() if value is not None}
    sliced = checkpoint["state_dict"].keys() - stored.keys()  # of a sharded one, which its index describes
    if sliced and not is_sharded(path):
        raise InputError(f"{path}: a checkpoint without values for {_some(sliced)}.")
    absent = sliced | {name for name in expected.keys() - stored if name.endswith(SINCE_LATER)}
    require_weights(path, stored, {name: value for name, value in expected.items() if name not in absent})


def _is_ours(checkpoint: dict[str, Any]) -> bool:
    """Whether a checkpoint has the parts that one of this package has, each of its kind."""
    state, described = checkpoint.get("state_dict"), checkpoint.get("hyper_parameters")
    autoencoder, members = checkpoint.get("autoencoder"), checkpoint.get("members", {})
    return (
        _is_named(state)
        and all(isinstance(value, Tensor | None) for value in state.values())
        and _is_named(described)
        and isinstance(described.get("_class_path"), str)
        and isinstance(described.get("d_in", 0), int)  # a module built in Python keeps less
        and _is_named(members)
        and (len(members) > 0 or _is_named(autoencoder))
    )


def _is_named(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def build(config: dict[str, Any], trust: Trust = ()) -> SparseAutoencoder:
    """An autoencoder with fresh weights from what `config()` returned.

    Classes of this package go by their names; a class of elsewhere is imported where its package is trusted.
    """
    kind: type[SparseAutoencoder] = _class_of(config, AUTOENCODERS, SparseAutoencoder, "autoencoder", trust)
    arguments = {**config["init_args"], "sparsifier": _build_sparsifier(config["init_args"]["sparsifier"], trust)}
    return kind(**arguments).eval()


def _build_sparsifier(config: dict[str, Any], trust: Trust) -> Sparsifier:
    kind: type[Sparsifier] = _class_of(config, SPARSIFIERS, Sparsifier, "sparsifier", trust)
    arguments = dict(config["init_args"])
    if "sparsifier" in arguments:
        arguments["sparsifier"] = _build_sparsifier(arguments["sparsifier"], trust)
    return kind(**arguments)


def _class_of(config: dict[str, Any], known: dict[str, type[Any]], base: type, what: str, trust: Trust) -> Any:
    path = config.get("class_path")
    if path is None:
        if config["class_name"] not in known:
            raise InputError(f"unknown {what} {config['class_name']!r}; known: {', '.join(known)}.")
        return known[config["class_name"]]
    found = resolve(str(path), what, trust)
    if not issubclass(found, base):
        raise InputError(f"{what}: {path!r} is not a {base.__name__}.")
    return found


def _member(path: Path, checkpoint: dict[str, Any], member: str | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The autoencoder's config and the module's state, of a run or of one member of an ensemble."""
    state: dict[str, Tensor] = checkpoint["state_dict"]
    members = checkpoint.get("members", {})
    if not members and member is not None:
        raise InputError(f"member is {member!r}, but {path} is no ensemble; leave it out.")
    if not members:
        return checkpoint["autoencoder"], state
    if member not in members:
        given = "is an ensemble" if member is None else f"has no member {member!r}"
        raise InputError(f"{path} {given}; give one of its members: {', '.join(members)}.")
    if not isinstance(members[member], dict) or not _is_named(members[member].get("autoencoder")):
        raise InputError(f"{path}: its member {member!r} is not described.")
    return members[member]["autoencoder"], _under(f"arms.{member}.", state)


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def _load_exported(folder: Path, trust: Trust) -> SparseAutoencoder:
    require_file(folder / CONFIG_FILE, MAX_CONFIG_BYTES)
    require_file(folder / WEIGHTS_FILE)
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        weights = load_file(folder / WEIGHTS_FILE)
    except (OSError, ValueError, RecursionError, SafetensorError, AttributeError) as error:
        raise InputError(f"{folder}: not a readable exported autoencoder ({error}).") from None
    autoencoder = _restore(folder, config, weights, trust)
    path = folder / WEIGHTS_FILE
    if config.get("weights") != record(path):
        raise InputError(f"{path}: not the weights that {CONFIG_FILE} was written with (size or SHA-256 differs).")
    return autoencoder


def _restore(path: Path, config: Any, weights: dict[str, Tensor], trust: Trust) -> SparseAutoencoder:
    """The autoencoder that a file describes, with its weights; nothing larger than they are is allocated."""
    try:
        _require_size(path, config["init_args"], weights)
        autoencoder = build(config, trust)
        state = autoencoder.state_dict()
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, RecursionError) as error:
        raise InputError(f"{path}: not the description of an autoencoder of this package ({error}).") from None
    require_weights(path, weights, state)
    autoencoder.load_state_dict(weights)
    return autoencoder


def _require_size(path: Path, described: dict[str, Any], weights: dict[str, Tensor]) -> None:
    sizes = [described["d_sae"], described["d_in"]]
    stored = list(weights["W_dec"].shape) if "W_dec" in weights else None
    if sizes != stored:
        raise InputError(
            f"{path}: the weights do not fit the configuration: d_sae, d_in are {sizes}, but W_dec is {stored}."
        )


def require_weights(path: Path, weights: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Refuse weights that are not, by name, shape and kind, what is expected, or hold nan."""
    for what, names in (("lack", expected.keys() - weights.keys()), ("have, beyond it,", weights.keys() - expected)):
        if names:
            raise InputError(f"{path}: the weights do not fit the configuration: they {what} {_some(names)}.")
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor):  # a checkpoint has None where slices belong
            raise InputError(f"{path}: {name} has no values.")
        if tensor.shape != expected[name].shape:
            raise InputError(
                f"{path}: the weights do not fit the configuration: {name} is {list(tensor.shape)}, "
                f"but must be {list(expected[name].shape)}."
            )
        if tensor.dtype not in DTYPES or tensor.is_floating_point() != expected[name].is_floating_point():
            raise InputError(f"{path}: {name} holds {tensor.dtype}, but must hold {expected[name].dtype}.")
        if tensor.isnan().any():
            raise InputError(f"{path}: {name} holds nan: its training diverged, or the file was damaged.")


def _some(names: Iterable[str], most: int = 3) -> str:
    listed = sorted(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def _input_scaling(path: Path, state: dict[str, Tensor], d_in: int) -> tuple[Tensor, Tensor]:
    mean, scale = state.get("input_mean"), state.get("input_scale")
    if (
        mean is None
        or scale is None
        or mean.shape != (d_in,)
        or scale.numel() != 1
        or not mean.isfinite().all()
        or not 0 < float(scale) < math.inf
    ):
        raise InputError(f"{path}: its input_mean and input_scale are not those of a run.")
    return mean, scale

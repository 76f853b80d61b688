"""dictionary_learning: folders of `ae.pt` (a state dict) and `config.json`, read and written.

`load_dictionary` of the library, and the loaders of SAEBench, read what is written here; nothing of it is imported.
The library trains on activations divided by a number, and at the end multiplies all biases and thresholds by it: rows
of W_dec have norm 1, and latents are in the units of the raw activations (SAEBench's loaders demand the former).
"""

from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsae_lightning import __version__
from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.gates import Gated, JumpReLU
from vsae_lightning.autoencoders.matryoshka import Matryoshka
from vsae_lightning.autoencoders.sparsifiers import ReLU
from vsae_lightning.autoencoders.topk import BatchTopK, TopK
from vsae_lightning.errors import InputError
from vsae_lightning.files import replacing, write_json
from vsae_lightning.interop.inference import assembled, common_norm, scale_latents_, selecting, set_pre_bias_
from vsae_lightning.interop.weights import matrix_shape, read_state, require_k, require_shapes
from vsae_lightning.origin import Origin, read_json

CONFIG, WEIGHTS = "config.json", "ae.pt"
OWN = "vsae_lightning"
# The trainer that makes each class: SAEBench goes by it.
TRAINERS = {
    "AutoEncoder": "StandardTrainer",
    "AutoEncoderNew": "StandardTrainerAprilUpdate",
    "AutoEncoderTopK": "TopKTrainer",
    "BatchTopKSAE": "BatchTopKTrainer",
    "MatryoshkaBatchTopKSAE": "MatryoshkaBatchTopKTrainer",
    "JumpReluAutoEncoder": "JumpReluTrainer",
    "GatedAutoEncoder": "GatedSAETrainer",
}
# Ours of theirs, where a class is of linear layers, whose weights are transposed.
LINEAR = {"encoder.weight": "W_enc", "decoder.weight": "W_dec"}
BIASES = {
    "AutoEncoder": {"encoder.bias": "b_enc", "bias": "b_dec"},
    "AutoEncoderNew": {"encoder.bias": "b_enc", "decoder.bias": "b_dec"},
    "AutoEncoderTopK": {"encoder.bias": "b_enc", "b_dec": "b_dec"},
    "BatchTopKSAE": {"encoder.bias": "b_enc", "b_dec": "b_dec"},
    "GatedAutoEncoder": {"gate_bias": "b_enc", "decoder_bias": "b_dec"},
}
WITHOUT_PRE_BIAS = ("AutoEncoderNew", "JumpReluAutoEncoder")
SUBMODULES = {"hook_resid_post": "resid_post", "hook_attn_out": "attention_out", "hook_mlp_out": "mlp_out"}


def write(folder: Path, autoencoder: SparseAutoencoder, origin: Origin) -> None:
    """Write a `deployed` autoencoder into a folder that is there, with decoder rows of norm 1; it is changed by that.

    Where rows differ in norm, one threshold for all (BatchTopK) becomes one per latent, that of a
    JumpReluAutoEncoder. TopK compares latents, so that their scale cannot be chosen: there the rows keep their norms,
    which dictionary_learning reads as they are, and SAEBench's loaders refuse.
    """
    norm = common_norm(autoencoder.W_dec)
    if norm is None and isinstance(selecting(autoencoder.sparsifier), BatchTopK):
        autoencoder = _of_thresholds(autoencoder)
    sparsifier = selecting(autoencoder.sparsifier)
    if norm is not None:
        scale_latents_(autoencoder, norm.float().expand(autoencoder.d_sae))
    elif not isinstance(sparsifier, TopK):
        norms = autoencoder.W_dec.norm(dim=-1)
        scale_latents_(autoencoder, torch.where(norms > 0, norms, 1.0))
    name = _class_of(autoencoder)
    set_pre_bias_(autoencoder, name not in WITHOUT_PRE_BIAS)
    with replacing(folder / WEIGHTS) as temporary:
        torch.save({key: value.detach().contiguous() for key, value in _state(name, autoencoder).items()}, temporary)
    write_json(folder / CONFIG, _config(name, autoencoder, origin))


def can_have_unit_rows(autoencoder: SparseAutoencoder) -> bool:
    """Whether decoder rows can be brought to norm 1 without another selection of latents."""
    return not isinstance(selecting(autoencoder.sparsifier), TopK) or common_norm(autoencoder.W_dec) is not None


def read(folder: Path) -> SparseAutoencoder:
    """The autoencoder of a folder. A threshold below 0 is 0, as the ReLU makes it one.

    Raises:
        InputError: It is of another class, or the files do not fit each other.
    """
    trainer = _trainer(read_json(folder / CONFIG))
    name, path = trainer.get("dict_class"), folder / WEIGHTS
    if name not in TRAINERS:
        raise InputError(f"{folder / CONFIG}: trainer.dict_class is {name!r}; known: {', '.join(TRAINERS)}.")
    state = read_state(path)
    if name in BIASES:
        d_sae, d_in = matrix_shape(path, state, "encoder.weight")
        shapes: dict[str, tuple[int, ...]] = {"encoder.weight": (d_sae, d_in), "decoder.weight": (d_in, d_sae)}
        biases = BIASES[name]
    else:
        d_in, d_sae = matrix_shape(path, state, "W_enc")
        shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in)}
        biases = {"b_enc": "b_enc", "b_dec": "b_dec"}
    integers = {key: state.pop(key) for key in ("k", "group_sizes") if key in state}
    further = _further_shapes(name, d_sae)
    shapes |= {theirs: (d_in if ours == "b_dec" else d_sae,) for theirs, ours in biases.items()} | further
    require_shapes(path, state, shapes)
    state = {key: value.float() for key, value in state.items()}
    weights = {ours: state[theirs] for theirs, ours in biases.items()}
    weights |= {ours: state[theirs].T for theirs, ours in LINEAR.items() if theirs in state}
    weights |= {key: state[key] for key in ("W_enc", "W_dec") if key in state}
    k = trainer.get("k", integers["k"].item() if "k" in integers and integers["k"].numel() == 1 else None)
    sizes = _group_sizes(path, integers.get("group_sizes"), d_sae) if name == "MatryoshkaBatchTopKSAE" else []
    if name in ("AutoEncoder", "AutoEncoderNew"):
        return assembled(weights, ReLU(), name == "AutoEncoder")
    if name == "JumpReluAutoEncoder":
        theta = state["threshold"].clamp_min(0)
        return assembled(weights, JumpReLU(), False, {"log_threshold": theta.log()})
    if name == "GatedAutoEncoder":
        r = state["r_mag"]
        return assembled(weights, Gated(), True, {"r": r, "b": state["mag_bias"] - r.exp() * state["gate_bias"]})
    k = require_k(folder / CONFIG, k, d_sae)
    threshold = {"threshold.value": state["threshold"]}
    if name == "AutoEncoderTopK":
        return assembled(weights, TopK(k), True, threshold)
    if not sizes:
        return assembled(weights, BatchTopK(k), True, threshold)
    inner = {f"sparsifier.{key}": value for key, value in threshold.items()}
    return assembled(weights, Matryoshka(BatchTopK(k), sizes), True, inner)


def origin(folder: Path) -> Origin:
    """What `config.json` says."""
    config = read_json(folder / CONFIG)
    if OWN in config:
        return Origin.of_record(config[OWN])
    trainer, buffer = _trainer(config), config.get("buffer")
    buffer = buffer if isinstance(buffer, dict) else {}
    known = {
        "model_name": trainer.get("lm_name"),
        "hook_name": _hook_name(trainer.get("submodule_name"), trainer.get("layer")),
        "context_length": buffer.get("ctx_len"),
        "drop_positions": int(buffer.get("remove_bos") is True),
    }
    return Origin({name: value for name, value in known.items() if value is not None}, config, {}, {})


def _class_of(autoencoder: SparseAutoencoder) -> str:
    sparsifier = selecting(autoencoder.sparsifier)
    if isinstance(sparsifier, BatchTopK):
        return "MatryoshkaBatchTopKSAE" if sparsifier is not autoencoder.sparsifier else "BatchTopKSAE"
    named = {TopK: "AutoEncoderTopK", JumpReLU: "JumpReluAutoEncoder", Gated: "GatedAutoEncoder", ReLU: "AutoEncoder"}
    return named[type(sparsifier)]


def _of_thresholds(autoencoder: SparseAutoencoder) -> SparseAutoencoder:
    """The equal autoencoder with a threshold per latent, of one whose threshold is common to all."""
    sparsifier = selecting(autoencoder.sparsifier)
    assert isinstance(sparsifier, BatchTopK)
    weights = {name: getattr(autoencoder, name).detach() for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    threshold = sparsifier.threshold.value.clamp_min(0).expand(autoencoder.d_sae)
    return assembled(weights, JumpReLU(), autoencoder.pre_bias, {"log_threshold": threshold.log()})


def _state(name: str, autoencoder: SparseAutoencoder) -> dict[str, Tensor]:
    sparsifier = selecting(autoencoder.sparsifier)
    if name in BIASES:
        state = {theirs: getattr(autoencoder, ours).T for theirs, ours in LINEAR.items()}
        state |= {theirs: getattr(autoencoder, ours) for theirs, ours in BIASES[name].items()}
    else:
        state = {key: getattr(autoencoder, key) for key in ("W_enc", "b_enc", "W_dec", "b_dec")}
    if isinstance(sparsifier, TopK | BatchTopK):
        state |= {"k": torch.tensor(sparsifier.k, dtype=torch.int32), "threshold": sparsifier.threshold.value}
    if isinstance(sparsifier, BatchTopK):
        state["threshold"] = sparsifier.threshold.value.clamp_min(0)
    if isinstance(autoencoder.sparsifier, Matryoshka) and isinstance(sparsifier, BatchTopK):
        ends = [0, *autoencoder.sparsifier.sizes, autoencoder.d_sae]
        state["group_sizes"] = torch.tensor([b - a for a, b in pairwise(ends)])
    if isinstance(sparsifier, JumpReLU):
        state["threshold"] = sparsifier.log_threshold.exp()
    if isinstance(sparsifier, Gated):
        bias = sparsifier.b + sparsifier.r.exp() * autoencoder.b_enc
        state |= {"r_mag": sparsifier.r, "mag_bias": bias}
    return state


def _further_shapes(name: str, d_sae: int) -> dict[str, tuple[int, ...]]:
    """Of the tensors that are neither weights nor biases nor whole numbers."""
    if name in ("AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
        return {"threshold": ()}
    if name == "JumpReluAutoEncoder":
        return {"threshold": (d_sae,)}
    return {"r_mag": (d_sae,), "mag_bias": (d_sae,)} if name == "GatedAutoEncoder" else {}


def _group_sizes(path: Path, groups: Tensor | None, d_sae: int) -> list[int]:
    """The cumulative sizes of a Matryoshka, without the whole dictionary."""
    listed = groups.tolist() if groups is not None and groups.ndim == 1 else []
    if sum(listed) != d_sae or not all(isinstance(size, int) and size > 0 for size in listed):
        raise InputError(f"{path}: group_sizes is {listed}; it must be positive numbers with the sum {d_sae}.")
    return list(accumulate(listed))[:-1]


def _trainer(config: dict[str, Any]) -> dict[str, Any]:
    trainer = config.get("trainer")
    return trainer if isinstance(trainer, dict) else {}


def _config(name: str, autoencoder: SparseAutoencoder, origin: Origin) -> dict[str, Any]:
    known = origin.provenance
    sparsifier = selecting(autoencoder.sparsifier)
    layer, submodule = _submodule(known.get("hook_name"))
    trainer = {
        "trainer_class": TRAINERS[name],
        "dict_class": name,
        "activation_dim": autoencoder.d_in,
        "dict_size": autoencoder.d_sae,
        **({"k": sparsifier.k} if isinstance(sparsifier, TopK | BatchTopK) else {}),
        "seed": origin.training.get("seed_everything"),
        "device": "cpu",
        "layer": layer,
        "lm_name": known.get("model_name"),
        "wandb_name": None,
        "submodule_name": submodule,
    }
    buffer = {
        "d_submodule": autoencoder.d_in,
        "io": "out",
        "ctx_len": known.get("context_length"),
        "refresh_batch_size": known.get("lm_batch_sequences"),
        "out_batch_size": None,
        "device": "cpu",
    }
    return {"trainer": trainer, "buffer": buffer, OWN: {"version": __version__, **origin._asdict()}}


def _submodule(hook_name: Any) -> tuple[int | None, str | None]:
    """The layer, and the library's name, of a TransformerLens hook."""
    match str(hook_name).split("."):
        case ["blocks", layer, hook] if layer.isdigit() and hook in SUBMODULES:
            return int(layer), f"{SUBMODULES[hook]}_layer_{layer}"
        case ["blocks", layer, *_] if layer.isdigit():
            return int(layer), str(hook_name)
    return None, None


def _hook_name(submodule: Any, layer: Any) -> str | None:
    """The TransformerLens hook of a submodule's name, as the library's demo names them."""
    for hook, name in SUBMODULES.items():
        if submodule == f"{name}_layer_{layer}":
            return f"blocks.{layer}.{hook}"
    return None

"""SAELens, from version 6 on: folders of `cfg.json` and `sae_weights.safetensors`, read and written.

`SAE.load_from_disk` of SAELens reads what is written here; nothing of it is imported. Its autoencoders are
f = act(W_enc^T (x - apply_b_dec_to_input b_dec) + b_enc), x_hat = W_dec^T f + b_dec.
"""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from vsae_lightning import __version__
from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.gates import Gated, JumpReLU
from vsae_lightning.autoencoders.sparsifiers import ReLU, Sparsifier
from vsae_lightning.autoencoders.topk import BatchTopK, TopK
from vsae_lightning.errors import InputError
from vsae_lightning.files import replacing, write_json
from vsae_lightning.interop.inference import assembled, scale_latents_, selecting
from vsae_lightning.interop.weights import matrix_shape, read_safetensors, require_k, require_shapes
from vsae_lightning.origin import Origin, read_json

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
VERSION = "6.54.12"  # without one SAELens takes the folder for one from before version 6, and drops the metadata
ARCHITECTURES = ("standard", "topk", "jumprelu", "gated")
OWN = "vsae_lightning"
SMALLEST_NORM = 1e-8  # SAELens's own, where it folds the norms


def write(folder: Path, autoencoder: SparseAutoencoder, origin: Origin) -> None:
    """Write a `deployed` autoencoder into a folder that is there."""
    sparsifier = selecting(autoencoder.sparsifier)
    tensors = {name: getattr(autoencoder, name).detach() for name in ("W_enc", "W_dec", "b_dec")}
    config: dict[str, Any] = {"architecture": "standard"}
    if isinstance(sparsifier, Gated):
        config["architecture"] = "gated"
        magnitude_bias = sparsifier.b + sparsifier.r.exp() * autoencoder.b_enc
        tensors |= {"b_gate": autoencoder.b_enc.detach(), "b_mag": magnitude_bias, "r_mag": sparsifier.r.detach()}
    else:
        tensors["b_enc"] = autoencoder.b_enc.detach()
    if isinstance(sparsifier, TopK):
        config |= {"architecture": "topk", "k": sparsifier.k, "rescale_acts_by_decoder_norm": False}
    elif isinstance(sparsifier, BatchTopK | JumpReLU):
        config["architecture"] = "jumprelu"
        tensors["threshold"] = threshold_of(sparsifier, autoencoder.d_sae)
    with replacing(folder / WEIGHTS) as temporary:
        save_file({name: tensor.float().contiguous() for name, tensor in tensors.items()}, temporary)
    common = {
        "d_in": autoencoder.d_in,
        "d_sae": autoencoder.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": autoencoder.pre_bias,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    write_json(folder / CONFIG, {**config, **common, "metadata": _metadata(origin, sparsifier)})


def threshold_of(sparsifier: BatchTopK | JumpReLU, d_sae: int) -> Tensor:
    """The pre-activation that a latent must exceed, [d_sae]."""
    if isinstance(sparsifier, JumpReLU):
        return sparsifier.log_threshold.detach().exp()
    return sparsifier.threshold.value.clamp_min(0).expand(d_sae).clone()


def read(folder: Path) -> SparseAutoencoder:
    """The autoencoder of a folder.

    `rescale_acts_by_decoder_norm` is folded. A threshold below 0 is 0, as the ReLU makes it one.

    Raises:
        InputError: It is of another kind, or normalizes or reshapes its input, or the files do not fit each other.
    """
    config = read_json(folder / CONFIG)
    _require_known(folder, config)
    tensors = read_safetensors(folder / WEIGHTS)
    d_in, d_sae = matrix_shape(folder / WEIGHTS, tensors, "W_enc")
    if (config.get("d_in"), config.get("d_sae")) != (d_in, d_sae):
        raise InputError(
            f"{folder}: the weights do not fit {CONFIG}: d_in, d_sae are {config.get('d_in')}, {config.get('d_sae')}, "
            f"but W_enc is {[d_in, d_sae]}."
        )
    architecture = config["architecture"]
    biases = ("b_gate", "b_mag", "r_mag") if architecture == "gated" else ("b_enc",)
    biases += ("threshold",) * (architecture == "jumprelu")
    shapes: dict[str, tuple[int, ...]] = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    require_shapes(folder / WEIGHTS, tensors, {**shapes, **dict.fromkeys(biases, (d_sae,))})
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    pre_bias = bool(config.get("apply_b_dec_to_input", True))
    if architecture == "topk":
        autoencoder = assembled(tensors, TopK(require_k(folder / CONFIG, config.get("k"), d_sae)), pre_bias)
        if config.get("rescale_acts_by_decoder_norm"):
            scale_latents_(autoencoder, autoencoder.W_dec.norm(dim=-1).clamp_min(SMALLEST_NORM))
        return autoencoder
    if architecture == "gated":
        r, gate, magnitude = (tensors.pop(name) for name in ("r_mag", "b_gate", "b_mag"))
        parameters = {"r": r, "b": magnitude - r.exp() * gate}
        return assembled({**tensors, "b_enc": gate}, Gated(), pre_bias, parameters)
    if architecture == "jumprelu":
        threshold = tensors.pop("threshold").clamp_min(0)
        return assembled(tensors, JumpReLU(), pre_bias, {"log_threshold": threshold.log()})
    return assembled(tensors, ReLU(), pre_bias)


def origin(folder: Path) -> Origin:
    """What the metadata says."""
    metadata = read_json(folder / CONFIG).get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    if OWN in metadata:
        return Origin.of_record(metadata[OWN])
    first = metadata.get("seqpos_slice")
    known = {
        "model_name": metadata.get("model_name"),
        "hook_name": metadata.get("hook_name"),
        "context_length": metadata.get("context_size"),
        "prepend_bos": metadata.get("prepend_bos"),
        "drop_positions": (first[0] if isinstance(first, list) and first else None) or 0,
    }
    return Origin({name: value for name, value in known.items() if value is not None}, metadata, {}, {})


def _require_known(folder: Path, config: dict[str, Any]) -> None:
    """Refuse, by name, what ours cannot be."""
    path = folder / CONFIG
    metadata = config.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("sae_lens_version"):
        raise InputError(f"{path}: has no metadata.sae_lens_version; load and save it with SAELens 6 or later.")
    if config.get("architecture") not in ARCHITECTURES:
        raise InputError(
            f"{path}: architecture is {config.get('architecture')!r}; those of {', '.join(ARCHITECTURES)} can be read "
            "(SAELens saves a batchtopk and a matryoshka as jumprelu at the end of a training)."
        )
    for option, why in (
        ("normalize_activations", "SAELens folds a factor or a whitening at the end of a training; others cannot be"),
        ("reshape_activations", "ours reads activations of one width"),
    ):
        if config.get(option, "none") != "none":
            raise InputError(f"{path}: {option} is {config[option]!r}; it must be 'none': {why}.")
    if config.get("finetuning_scaling_factor"):
        raise InputError(f"{path}: finetuning_scaling_factor is set; ours has none.")


def _metadata(origin: Origin, sparsifier: Sparsifier) -> dict[str, Any]:
    known = origin.provenance
    text = known.get("text") or {}
    return {
        "sae_lens_version": VERSION,
        "sae_lens_training_version": None,
        "training_architecture": type(sparsifier).__name__.lower(),
        "model_name": known.get("model_name"),
        "model_class_name": "HookedTransformer",
        "hook_name": known.get("hook_name"),
        "hook_head_index": None,
        "context_size": known.get("context_length"),
        "prepend_bos": known.get("prepend_bos"),
        "seqpos_slice": [known.get("drop_positions"), None],
        "dataset_path": (text.get("init_args") or {}).get("path") or text.get("class_path"),
        "model_from_pretrained_kwargs": {},
        OWN: {"version": __version__, **origin._asdict()},
    }

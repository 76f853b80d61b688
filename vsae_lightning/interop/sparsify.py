"""sparsify: the folder of a hookpoint, with `cfg.json` and `sae.safetensors`, read. Its latents are TopK(ReLU(.))."""

import re
from pathlib import Path
from typing import Any

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.topk import TopK
from vsae_lightning.errors import InputError
from vsae_lightning.interop.inference import assembled
from vsae_lightning.interop.weights import matrix_shape, read_safetensors, require_k, require_shapes
from vsae_lightning.origin import Origin, read_json

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
HOOKPOINT = re.compile(r"(?:\w+\.)*(?:layers|h)\.(\d+)(?:\.(mlp|attn|attention|self_attn))?")
HOOKS = {None: "hook_resid_post", "mlp": "hook_mlp_out"}


def read(folder: Path) -> SparseAutoencoder:
    """The autoencoder of a hookpoint's folder.

    Raises:
        InputError: It is a transcoder, has a skip connection or another activation than TopK, or the files do not
            fit each other.
    """
    config, path = read_json(folder / CONFIG), folder / WEIGHTS
    if config.get("activation", "topk") != "topk":
        raise InputError(f"{folder / CONFIG}: activation is {config['activation']!r}; only topk can be read.")
    for option, what in (("transcode", "a transcoder"), ("skip_connection", "one with a skip connection")):
        if config.get(option):
            raise InputError(f"{folder / CONFIG}: {option} is set: {what} is no autoencoder of one activation.")
    tensors = read_safetensors(path)
    d_sae, d_in = matrix_shape(path, tensors, "encoder.weight")
    shapes = {"encoder.weight": (d_sae, d_in), "encoder.bias": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    require_shapes(path, tensors, shapes)
    if config.get("d_in") != d_in:
        raise InputError(f"{folder / CONFIG}: d_in is {config.get('d_in')}, but encoder.weight is {[d_sae, d_in]}.")
    weights = {
        "W_enc": tensors["encoder.weight"].float().T,
        "b_enc": tensors["encoder.bias"].float(),
        "W_dec": tensors["W_dec"].float(),
        "b_dec": tensors["b_dec"].float(),
    }
    return assembled(weights, TopK(require_k(folder / CONFIG, config.get("k"), d_sae)), True)


def origin(folder: Path) -> Origin:
    """What the run's `config.json`, beside the hookpoint's folder, says, and the folder's name."""
    beside = folder.resolve().parent / "config.json"
    config: dict[str, Any] = read_json(beside) if beside.is_file() else {}
    known = {
        "model_name": config.get("model"),
        "hook_name": _hook_name(folder.resolve().name),
        "context_length": config.get("ctx_len"),
        "drop_positions": 0,
    }
    return Origin({name: value for name, value in known.items() if value is not None}, config, {}, {})


def _hook_name(hookpoint: str) -> str | None:
    """The TransformerLens hook of a module's output."""
    match = HOOKPOINT.fullmatch(hookpoint)
    return match and f"blocks.{match[1]}.{HOOKS.get(match[2], 'hook_attn_out')}"

"""Hooks of a language model: their names, how wide they are, and what other libraries call them."""

import re
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vsae_lightning.data.bridges import ShapesOnly, empty_bridge
from vsae_lightning.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from transformers import PretrainedConfig

RESIDUAL_HOOKS = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out")
MLP_HOOKS = ("mlp.hook_pre", "mlp.hook_post")
# Where the config alone tells these widths; a test compares each with the model.
PLAIN = ("gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "olmo2", "qwen2", "qwen3")
# What is written to the residual stream, so that the direct path leads on to the logits.
WRITES = (
    *("hook_in", "hook_out", "attn.hook_out", "attn.o.hook_out", "mlp.hook_out", "mlp.out.hook_out"),
    *("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out"),
)
# blocks.3, model.layers.3, transformer.h.3, gpt_neox.layers.3, or 3, with what comes behind it.
LAYER = re.compile(r"(?:[A-Za-z_]+\.)*(?:layers?|blocks?|h)\.(-?\d+)(?:\.(.+))?|(-?\d+)")
PARTS = {"mlp": "hook_mlp_out", "attn": "hook_attn_out", "self_attn": "hook_attn_out", "attention": "hook_attn_out"}
SEQUENCES, POSITIONS = 2, 13  # a number of positions that no model has heads


def width_of(hook_name: str, model_name: str, config: "PretrainedConfig") -> int:
    """How many numbers a hook has for each token; asked of the model, without weights, where the config cannot tell.

    Raises:
        InputError: The model has no such hook, or what is there belongs to no single token.
        Exception: A model without values cannot be run this far.
    """
    require_layer(hook_name, model_name, config.get_text_config().num_hidden_layers)
    known = _plain_widths(config)
    return known[hook_name] if hook_name in known else _measured_width(hook_name, model_name, empty_bridge(config))


def require_layer(hook_name: str, model_name: str, layers: int) -> None:
    """Refuse a layer that is not there, and one that is named as another library does, with the right name."""
    match = LAYER.fullmatch(hook_name)
    if match is None:
        return
    layer, rest = int(match[1] or match[3]), match[2]
    if not -layers <= layer < layers or (layer < 0 and rest not in (None, *PARTS)):
        near = f" Did you mean blocks.{layers - 1}.{rest}?" if rest else ""
        raise InputError(
            f"hook_name: {model_name!r} (layers 0 to {layers - 1}) has no hook {hook_name!r}, as there is no layer "
            f"{layer}.{near}"
        )
    layer %= layers
    if rest in (None, *PARTS):
        name = f"blocks.{layer}.{'hook_resid_post' if rest is None else PARTS[rest]}"
        raise InputError(
            f"hook_name: {model_name!r} has no hook {hook_name!r}; give {name}{_place(layer, layers, rest)}."
        )


def _place(layer: int, layers: int, rest: str | None) -> str:
    if rest is not None:
        return ""
    if layer == layers - 1:
        return ", which hidden_states has only after the final norm"
    return f", which is index {layer + 1} of hidden_states"


def _plain_widths(config: "PretrainedConfig") -> dict[str, int]:
    """The widths that the config of a plain model tells, by hook."""
    if config.model_type not in PLAIN:
        return {}
    d_mlp = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size
    parallel = getattr(config, "use_parallel_residual", False)
    widths = {hook: config.hidden_size for hook in RESIDUAL_HOOKS if not (parallel and hook == "hook_resid_mid")}
    widths |= dict.fromkeys(MLP_HOOKS, d_mlp)
    return {
        f"blocks.{layer}.{hook}": width for layer in range(config.num_hidden_layers) for hook, width in widths.items()
    }


def _measured_width(hook_name: str, model_name: str, bridge: Any) -> int:
    require_hook(hook_name, model_name, bridge)
    tokens = torch.zeros(SEQUENCES, POSITIONS, dtype=torch.long, device=bridge.original_model.device)
    with ShapesOnly():
        captured = capture(bridge, hook_name, model_name, tokens)
    return by_token(captured, hook_name, SEQUENCES, POSITIONS).shape[-1]


def require_hook(hook_name: str, model_name: str, bridge: Any) -> None:
    """Refuse a hook that the bridge does not offer, with near names."""
    if hook_name not in bridge.hook_dict:
        last = len(bridge.blocks) - 1
        raise InputError(
            f"hook_name: {model_name!r} (layers 0 to {last}) has no hook {hook_name!r}."
            + did_you_mean(hook_name, bridge.hook_dict)
        )


@torch.no_grad()
def capture(bridge: Any, hook_name: str, model_name: str, tokens: Tensor) -> Any:
    """What passes the hook; nothing behind it is computed.

    Raises:
        InputError: Nothing does.
    """
    captured: list[Any] = []

    def keep(activations: Any, hook: Any) -> None:
        captured.append(activations)
        raise _HookReachedError

    try:
        with bridge.hooks(fwd_hooks=[(hook_name, keep)]):
            bridge(tokens, return_type=None)
    except _HookReachedError:
        pass
    except ValueError as error:
        if not captured and "Cannot add hook" in str(error):
            raise InputError(f"hook_name: {hook_name!r} is switched off in TransformerLens; give another.") from None
        raise
    if not captured:
        raise InputError(f"hook_name: {model_name!r} computes nothing at its hook {hook_name!r}; give another.")
    return captured[0]


def by_token(captured: Any, hook_name: str, sequences: int, positions: int) -> Tensor:
    """Activations as [sequences, positions, d_in], heads side by side.

    Raises:
        InputError: What is at the hook has no numbers for each token.
    """
    shape = getattr(captured, "shape", ())
    if not isinstance(captured, Tensor) or not captured.is_floating_point():
        raise InputError(f"hook_name: there are no activations at {hook_name!r}; give another.")
    if len(shape) >= 3 and shape[:2] == (sequences, positions):
        activations = captured.flatten(2)
    elif len(shape) == 2 and shape[0] == sequences * positions:
        activations = captured.unflatten(0, (sequences, positions))
    else:
        raise InputError(
            f"hook_name: what is at {hook_name!r} belongs to no single token (its shape is {list(shape)} for "
            f"{sequences} sequences of {positions} tokens); give another."
        )
    if activations.shape[-1] == 1:
        raise InputError(f"hook_name: there is one number for each token at {hook_name!r}; give another.")
    return activations


class _HookReachedError(Exception):
    """Ends the forward pass at the hook; also right for the last block, which `stop_at_layer` runs past."""

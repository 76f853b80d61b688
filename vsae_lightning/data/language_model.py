"""Tokens to activations at one hook of a language model, stopping there (TransformerLens)."""

import json
import textwrap
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vsae_lightning.data.bridges import load_bridge
from vsae_lightning.data.hooks import POSITIONS, SEQUENCES, WRITES, by_token, capture, require_hook, width_of
from vsae_lightning.data.hub import require_available
from vsae_lightning.data.model_folder import require_harmless_config, require_plain_files, require_weights
from vsae_lightning.data.text import BUNDLED
from vsae_lightning.data.tokenizer_limits import failures_told, require_modest
from vsae_lightning.errors import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

# Activations [sequences, position, d_in] to others of the same shape.
Edit = Callable[[Tensor], Tensor]
Dtype = Literal["float32", "bfloat16", "float16"]
MAX_SIZES = {"num_hidden_layers": 1000, "hidden_size": 1_000_000, "vocab_size": 10_000_000}
MAX_LOGITS = 2**25  # 128 MiB in float32


class LanguageModel:
    """A frozen language model, read at one hook.

    Args:
        model_name: Hub name, local folder, or "bundled".
        hook_name: A TransformerLens name: `blocks.L.` and hook_resid_pre, hook_resid_post, hook_attn_out, hook_mlp_out,
            mlp.hook_pre (of gated models: the gate's), mlp.hook_post, attn.hook_z (heads side by side),
            ln1.hook_normalized, or any other with activations for each token.
        dtype: Of the weights, and so of the activations.

    Raises:
        InputError: The model cannot be found, or has no such hook.
    """

    def __init__(self, model_name: str, hook_name: str, dtype: Dtype = "float32") -> None:
        self.model_name = model_name
        self.hook_name = hook_name
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.source = _source(model_name)
        self.config = _read_config(model_name, self.source)
        self.d_in = self._width()
        self.bridge: Any = None

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerFast":
        """The model's own fast tokenizer."""
        from transformers import AutoTokenizer

        if Path(self.source).is_dir() and not (Path(self.source) / "tokenizer.json").is_file():
            raise InputError(f"model_name: {self.model_name!r} has no tokenizer.json; save its fast tokenizer there.")
        self._require_modest_tokenizer()
        try:
            with failures_told(f"model_name: {self.model_name!r} cannot be used"):
                tokenizer = AutoTokenizer.from_pretrained(self.source, trust_remote_code=False)
        except InputError:
            raise
        except Exception as error:
            raise self._unusable("tokenizer", error) from None
        if not tokenizer.is_fast:
            raise InputError(f"model_name: {self.model_name!r} has no fast tokenizer, which is needed.")
        return tokenizer

    @property
    def begins_with_bos(self) -> bool:
        """Whether the tokenizer begins every text with its BOS token, as the model has seen in its own training."""
        bos = self.tokenizer.bos_token_id
        return bos is not None and self.tokenizer("a")["input_ids"][:1] == [bos]

    def _require_modest_tokenizer(self) -> None:
        """Look at the tokenizer's file before the library does, which runs its normalizer as it loads it."""
        try:
            path = _file(self.source, "tokenizer.json")
            if path is not None:
                require_modest(json.loads(path.read_bytes()))
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            raise self._unusable("tokenizer", error) from None

    @property
    def positions(self) -> int | None:
        """The longest sequence it has positions for, in tokens; None where its config sets no limit."""
        return getattr(self.config.get_text_config(), "max_position_embeddings", None)

    @property
    def embeddings(self) -> int:
        """Number of tokens that it has embeddings for; its tokenizer may have more."""
        return int(self.config.get_text_config().vocab_size)

    def require_positions(self, context_length: int) -> None:
        """Raise `InputError` where sequences are longer than the model has positions."""
        if self.positions is not None and context_length > self.positions:
            raise InputError(f"context_length is {context_length}; {self.model_name!r} has {self.positions} positions.")

    def require_weights(self) -> None:
        """Raise `InputError` where a local model's weights are missing, torn or another's; none are loaded."""
        if Path(self.source).is_dir():
            require_weights(Path(self.source), self.config)

    def load(self, device: torch.device | str) -> None:
        """Load the weights, frozen, onto `device`."""
        tokenizer = self.tokenizer
        try:
            with failures_told(f"model_name: {self.model_name!r} cannot be loaded"):
                bridge = load_bridge(self.source, self.config, tokenizer, self.dtype, device)
        except InputError:
            raise
        except Exception as error:  # of TransformerLens, transformers, safetensors or torch, each with its own
            raise self._unusable("weights", error) from None
        bridge.eval().requires_grad_(False)
        # The bridge asks for eager attention; what it is needed for, attention patterns, is not read here.
        if bridge.original_model._supports_sdpa:
            bridge.original_model.set_attn_implementation("sdpa")
        require_hook(self.hook_name, self.model_name, bridge)
        self.bridge = bridge

    @torch.no_grad()
    def activations(self, tokens: Int[Tensor, "sequences position"]) -> Float[Tensor, "sequences position d_in"]:
        """The activations at the hook; nothing behind it is computed."""
        assert self.bridge is not None, "load() comes first"
        captured = capture(self.bridge, self.hook_name, self.model_name, tokens)
        activations = by_token(captured, self.hook_name, *tokens.shape)
        if activations.shape[-1] != self.d_in:
            raise InputError(
                f"hook_name: {self.hook_name!r} of {self.model_name!r} has {activations.shape[-1]} numbers for each "
                f"token, not {self.d_in} as its config says."
            )
        return activations

    @torch.no_grad()
    def logits(
        self, tokens: Int[Tensor, "sequences position"], edit: Edit | None = None
    ) -> Float[Tensor, "sequences position vocabulary"]:
        """The logits; with `edit`, those where the activations at the hook are what it makes of them."""
        assert self.bridge is not None, "load() comes first"

        def replace(activations: Tensor, hook: Any) -> Tensor:
            assert edit is not None
            return edit(by_token(activations, self.hook_name, *tokens.shape)).reshape(activations.shape)

        with self.bridge.hooks(fwd_hooks=[] if edit is None else [(self.hook_name, replace)]):
            logits: Tensor = self.bridge(tokens, return_type="logits")
        return logits

    @property
    def writes_linearly(self) -> bool:
        """Whether what is at the hook reaches the residual stream by a linear map: not so before a nonlinearity."""
        return self._hook in WRITES or self._output_weights() is not None

    @property
    def _hook(self) -> str:
        """The hook's name within its block."""
        return self.hook_name.removeprefix("blocks.").partition(".")[2]

    def _output_weights(self) -> Tensor | None:
        """The weights from the hook to the residual stream [d_in, width]; None where there are no such."""
        part, _, name = self._hook.partition(".")
        weights = {"mlp": "W_out", "attn": "W_O"}.get(part)
        if name not in ("hook_post", "hook_z") or weights is None:
            return None
        block = self.bridge.blocks[int(self.hook_name.split(".")[1])]
        found = getattr(getattr(block, part), weights, None)
        if not isinstance(found, Tensor) or found.numel() != self.d_in * found.shape[-1]:
            return None  # a mixture of experts has them for each expert
        return found.flatten(0, -2)

    @torch.no_grad()
    def direct_logits(self, directions: Float[Tensor, "n d_in"]) -> Float[Tensor, "n vocabulary"]:
        """What directions at the hook say of the next token on the direct path, in float32 (nostalgebraist 2020).

        logits = (norm(d) - norm(0)) W_U: the final norm is applied as if the residual stream were the direction alone,
        so that its length is of no importance, and what the norm and the unembedding add to every input is left out.
        The order of tokens is that of d W_U with the weights of the norm folded into W_U, and d centred where it is a
        LayerNorm. At `mlp.hook_post` and `attn.hook_z`, d is first taken through the output weights.
        """
        assert self.bridge is not None, "load() comes first"
        rows = directions.to(self.dtype)
        if (weights := self._output_weights()) is not None:
            rows = rows @ weights
        rows = rows.shape[-1] ** 0.5 * torch.nn.functional.normalize(rows, dim=-1)  # what the norm's epsilon is for
        norm = self.bridge.ln_final
        normed = norm(rows[None]) - norm(torch.zeros_like(rows[None, :1]))
        return normed[0].float() @ self.bridge.unembed.W_U.float()

    def sequences_at_once(self, context_length: int) -> int:
        """Of how many sequences the logits are to be in memory together: what they take is bounded, see MAX_LOGITS."""
        return max(1, MAX_LOGITS // (context_length * self.embeddings))

    def _unusable(self, what: str, error: Exception) -> InputError:
        return InputError(f"model_name: the {what} of {self.model_name!r} cannot be loaded: {_reason(error)}")

    def _width(self) -> int:
        try:
            return width_of(self.hook_name, self.model_name, self.config)
        except InputError:
            raise
        except Exception:  # what is computed on the way depends on values
            return self._width_with_weights()

    def _width_with_weights(self) -> int:
        self.load("cpu")
        tokens = torch.zeros(SEQUENCES, POSITIONS, dtype=torch.long)
        captured = capture(self.bridge, self.hook_name, self.model_name, tokens)
        self.bridge = None
        return by_token(captured, self.hook_name, SEQUENCES, POSITIONS).shape[-1]


def _source(model_name: str) -> str:
    """The folder of a local or bundled model, or the hub name."""
    if model_name == "bundled":
        return str(BUNDLED / "model")
    folder = Path(model_name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"model_name: {model_name!r} is a folder without config.json, so not a model.")
        # Absolute: a relative name may be an alias of TransformerLens, which would load what it means by it.
        require_plain_files(folder)
        return str(folder.resolve())
    if folder.is_absolute() or model_name.startswith((".", "~")):
        raise InputError(f"model_name: there is no folder {model_name!r}.")
    require_available(model_name, "model_name", "model")
    return model_name


def _read_config(model_name: str, source: str) -> "PretrainedConfig":
    from transformers import AutoConfig

    try:
        if (path := _file(source, "config.json")) is not None:
            require_harmless_config(json.loads(path.read_bytes()))
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # transformers trips over whatever JSON may hold
        raise InputError(f"model_name: {model_name!r} has no usable config: {_reason(error)}") from None
    _require_size(model_name, config.get_text_config())
    return config


def _file(source: str, name: str) -> Path | None:
    """A file of a local folder, or of the hub, downloaded where it is not cached; None where there is none."""
    from transformers.utils import cached_file

    found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)


def _require_size(model_name: str, config: "PretrainedConfig") -> None:
    """Refuse what is no language model, or one of a size that nobody has."""
    for name, maximum in MAX_SIZES.items():
        size = getattr(config, name, None)
        if not isinstance(size, int) or not 1 <= size <= maximum:
            raise InputError(f"model_name: {model_name!r} has no usable config: its {name} is {size!r}.")


def _reason(error: Exception) -> str:
    return textwrap.shorten(str(error), 200, placeholder="...") or type(error).__name__

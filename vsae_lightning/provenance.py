"""Where an autoencoder's activations come from: the language model, the hook, and how text becomes sequences."""

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, cast, get_args

from vsae_lightning.data.language_model import Dtype, LanguageModel
from vsae_lightning.data.text import BundledText, HuggingFaceText, TextFiles, TextSource
from vsae_lightning.data.tokens import TokenStore, store_key
from vsae_lightning.errors import InputError, require_at_least
from vsae_lightning.trust import Trust
from vsae_lightning.trusted_specs import require_trusted_spec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# What the values are in the metadata of a stranger's export too.
KINDS: dict[str, tuple[type, ...]] = {
    "model_name": (str,),
    "hook_name": (str,),
    "context_length": (int,),
    "dtype": (str,),
    "prepend_bos": (bool,),
    "drop_positions": (int,),
    "lm_batch_sequences": (int,),
    "max_tokens": (int, NoneType),
    "text": (dict, NoneType),
    "cache_dir": (str, NoneType),
    "max_norm": (float, NoneType),
}
MINIMA = {"context_length": 1, "drop_positions": 0, "lm_batch_sequences": 1, "max_tokens": 1, "max_norm": 1e-30}
# Names without an owner are not told from "bundled" and the like.
HUB_NAME = re.compile(r"\w[\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)
TEXTS: dict[str, type[Any]] = {cls.__name__: cls for cls in (BundledText, HuggingFaceText, TextFiles)}


@dataclass(frozen=True)
class Provenance:
    """The options of `ActivationDataModule` that decide which activations an autoencoder is for.

    Attributes:
        text: `class_path` and `init_args` of the text, as YAML has them; None: the bundled text.
        max_norm: Training left out activations of a larger norm; None: none for their norm.
        trust: Packages of the user, whose classes the text may be of.
    """

    model_name: str
    hook_name: str
    context_length: int = 128
    dtype: Dtype = "float32"
    prepend_bos: bool = False
    drop_positions: int = 1
    lm_batch_sequences: int = 32
    max_tokens: int | None = None
    text: dict[str, Any] | None = None
    cache_dir: str | None = None
    max_norm: float | None = None
    trust: Trust = field(default=(), compare=False)

    @classmethod
    def of_options(cls, options: dict[str, Any], trust: Trust = ()) -> "Provenance":
        """From the options of a data module, of which others than these are left out.

        Raises:
            InputError: They lack the model or the hook, or one is of the wrong type.
        """
        known = {name: options[name] for name in KINDS if name in options}
        if not {"model_name", "hook_name"} <= known.keys():
            raise InputError("the origin of its activations is not known: model_name and hook_name are needed.")
        for name, value in known.items():
            if type(value) not in KINDS[name]:
                raise InputError(f"{name} is {value!r}; it must be of type {KINDS[name][0].__name__}.")
        if known.get("dtype", "float32") not in get_args(Dtype):
            raise InputError(f"dtype is {known['dtype']!r}; it must be one of {', '.join(get_args(Dtype))}.")
        for name, minimum in MINIMA.items():
            require_at_least(minimum, **({name: known[name]} if known.get(name) is not None else {}))
        return cls(**known, trust=trust)

    def options(self) -> dict[str, Any]:
        """As plain values, for JSON; `max_norm` where there is one, so that older results stay valid."""
        known = {name: value for name, value in asdict(self).items() if name in KINDS}
        return known if self.max_norm is not None else {k: value for k, value in known.items() if k != "max_norm"}

    def language_model(self) -> LanguageModel:
        """The language model, without its weights yet."""
        model = LanguageModel(self.model_name, self.hook_name, self.dtype)
        model.require_positions(self.context_length)
        return model

    def tokens(self, model: LanguageModel) -> TokenStore:
        """The token store that the autoencoder was trained on; made if there is none."""
        return TokenStore.prepare(*self._tokens(model), self.cache_dir, model.embeddings)

    def store_key(self, model: LanguageModel) -> str:
        """The name of that store, from the state of its files alone."""
        return store_key(*self._tokens(model))

    def _tokens(self, model: LanguageModel) -> "tuple[TextSource, PreTrainedTokenizerFast, int, bool, int | None]":
        return self._text(), model.tokenizer, self.context_length, self.prepend_bos, self.max_tokens

    def _text(self) -> TextSource:
        if self.text is None:
            return BundledText()
        path = str(self.text.get("class_path"))
        package, _, name = path.rpartition(".")
        is_ours = name in TEXTS and package.partition(".")[0] in ("", "vsae_lightning")
        # Any other class must be a text: it is made with the options that a stranger's file gives.
        found: type[Any] = (
            TEXTS[name] if is_ours else require_trusted_spec(self.text, "data.text", TextSource, self.trust)
        )
        try:
            return cast(TextSource, found(**(self.text.get("init_args") or {})))
        except (TypeError, OSError) as error:  # an option that there is not, of another type, or no path
            raise InputError(f"text: {name} cannot be made of these options: {error}.") from None


def is_on_hub(name: str) -> bool:
    """Whether a name is owner/name on the Hugging Face hub, and no path here."""
    return HUB_NAME.fullmatch(name) is not None and not Path(name).exists()


def is_public(text: Any) -> bool:
    """Whether a text, as YAML has it, is the bundled one or a dataset of the hub, whatever a stranger wrote there.

    Arguments of `datasets.load_dataset` can name local files, and folders to write to.
    """
    found = text if isinstance(text, dict) else {}
    name, arguments = str(found.get("class_path")).rpartition(".")[2], found.get("init_args") or {}
    if name == HuggingFaceText.__name__ and isinstance(arguments, dict):
        return is_on_hub(str(arguments.get("path"))) and not arguments.get("load_args")
    return text is None or name == BundledText.__name__


def require_language_model(path: Path, training: dict[str, Any]) -> None:
    """Raise `InputError` where a run was not trained on a language model."""
    name = (training.get("data") or {}).get("class_path")
    if str(name).rpartition(".")[2] != "ActivationDataModule":
        raise InputError(f"RUN: {str(path)!r} was trained on {name}: there is no language model to ask.")

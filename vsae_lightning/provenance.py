"""Where an autoencoder's activations come from: the language model, the hook, and how text becomes sequences."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

from vsae_lightning.config_files import read_config
from vsae_lightning.data.language_model import Dtype, LanguageModel
from vsae_lightning.data.text import BundledText, HuggingFaceText, TextFiles, TextSource
from vsae_lightning.data.tokens import TokenStore
from vsae_lightning.errors import InputError
from vsae_lightning.runs import run_of
from vsae_lightning.trust import require_trusted_run

TEXTS: dict[str, type[Any]] = {cls.__name__: cls for cls in (BundledText, HuggingFaceText, TextFiles)}


@dataclass(frozen=True)
class Provenance:
    """The options of `ActivationDataModule` that decide which activations an autoencoder is for.

    Attributes:
        text: `class_path` and `init_args` of the text, as YAML has them; None: the bundled text.
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

    @classmethod
    def of_options(cls, options: dict[str, Any]) -> "Provenance":
        """From the options of a data module, of which others than these are left out.

        Raises:
            InputError: They lack the model or the hook.
        """
        known = {field.name for field in fields(cls)}
        try:
            return cls(**{name: value for name, value in options.items() if name in known})
        except TypeError:
            raise InputError(
                "the origin of its activations is not known: model_name and hook_name are needed."
            ) from None

    def options(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    def language_model(self) -> LanguageModel:
        """The language model, without its weights yet."""
        model = LanguageModel(self.model_name, self.hook_name, self.dtype)
        model.require_positions(self.context_length)
        return model

    def tokens(self, model: LanguageModel) -> TokenStore:
        """The token store that the autoencoder was trained on; made if there is none."""
        return TokenStore.prepare(
            self._text(), model.tokenizer, self.context_length, self.prepend_bos, self.max_tokens, self.cache_dir
        )

    def _text(self) -> TextSource:
        if self.text is None:
            return BundledText()
        name = str(self.text.get("class_path")).rpartition(".")[2]
        if name not in TEXTS:
            raise InputError(f"text: {name!r} is not one of {', '.join(TEXTS)}.")
        return cast(TextSource, TEXTS[name](**(self.text.get("init_args") or {})))


def provenance_of_run(path: Path) -> Provenance:
    """That of a run folder, or of the run that a checkpoint is of.

    Raises:
        InputError: It belongs to no run, its settings name foreign code, or it was not trained on a language model.
    """
    config = run_of(path) / "config.yaml"
    require_trusted_run(config)
    data = read_config(config)["data"]
    if data["class_path"].rpartition(".")[2] != "ActivationDataModule":
        raise InputError(f"RUN: {str(path)!r} was trained on {data['class_path']}: there is no language model to ask.")
    return Provenance.of_options(data["init_args"])

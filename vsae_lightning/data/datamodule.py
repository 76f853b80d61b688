"""Live activations of a language model, from text to batches."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Int
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor

from vsae_lightning.data.held_out import HeldOutActivations
from vsae_lightning.data.language_model import Dtype, LanguageModel
from vsae_lightning.data.position import (
    require_an_end,
    require_same_layout,
    require_same_source,
    steps_consumed,
)
from vsae_lightning.data.statistics import (
    MASSIVE_RATIO,
    InputScaling,
    InputStatistics,
    NormStatistics,
    ScaleTo,
    input_statistics,
    norm_statistics,
)
from vsae_lightning.data.stream import ActivationStream, Sequences, StreamLayout, spread
from vsae_lightning.data.text import BundledText, TextSource
from vsae_lightning.data.tokens import TokenStore, store_key
from vsae_lightning.errors import InputError, require_at_least
from vsae_lightning.seeding import global_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class ActivationDataModule(LightningDataModule):
    """Shuffled activations of one hook for training, held-out ones in order for evaluation.

    The language model lives here and enters neither the LightningModule nor a checkpoint. All sizes
    count over all ranks. The position in the stream is one integer, the steps consumed.

    Args:
        model_name: Hub name (EleutherAI/pythia-70m-deduped), local folder, or "bundled".
        hook_name: Where to read, e.g. blocks.3.hook_resid_post.
        text: Where documents come from; None: the bundled text.
        context_length: Tokens per sequence.
        batch_size: Activations per step.
        block_sequences: Sequences that are shuffled together; this many times context_length activations
            are kept in memory.
        lanes: Independent parts of the stream; the number of ranks divides it.
        lm_batch_sequences: Sequences per forward pass of the language model.
        dtype: Of the language model's weights and of the activations kept.
        prepend_bos: Start every sequence with the tokenizer's BOS token (Pythia was trained without).
        drop_positions: First positions of every sequence that are left out: position 0 is an attention
            sink of huge norm in models without BOS.
        max_norm_ratio: Activations whose norm is more than this many times the median norm (massive activations,
            sinks) are left out of training and of held-out metrics. The limit is fixed on the first block. null: keep
            all activations.
        max_non_finite_sequences: Activations that are not finite are left out, named and counted; training stops when
            one rank has met more sequences with such activations than this.
        max_tokens: Tokenise no more training tokens than this; None: all of the text.
        scale_to: Scale activations by one number so that E||x||^2 is d_in, or one.
        center: Subtract the mean of the activations first.
        validation_tokens: Held-out tokens that `validate` reads, from the first; `test` reads all.
        predict_split: Of which sequences `predict` writes the latents.
        cache_dir: Where token stores are kept; None: ~/.cache/vsae_lightning/tokens.
        seed: Of the stream's permutations; None: that of `seed_everything`.

    Attributes:
        allowed_to_change: Options, such as hook_name or text, that a run may go on without.
        changed: Of these, what a resumed run has changed: the value before, and the one now.

    Raises:
        InputError: An unknown model or hook, or sizes that do not fit together; before any weights or
            text are read.
    """

    def __init__(
        self,
        model_name: str,
        hook_name: str,
        text: TextSource | None = None,
        context_length: int = 128,
        batch_size: int = 4096,
        block_sequences: int = 4096,
        lanes: int = 8,
        lm_batch_sequences: int = 32,
        dtype: Dtype = "float32",
        prepend_bos: bool = False,
        drop_positions: int = 1,
        max_norm_ratio: float | None = MASSIVE_RATIO,
        max_non_finite_sequences: int = 100,
        max_tokens: int | None = None,
        scale_to: ScaleTo = "d_in",
        center: bool = False,
        validation_tokens: int = 100_000,
        predict_split: Literal["held_out", "train"] = "held_out",
        cache_dir: str | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if context_length <= max(0, drop_positions):
            raise InputError(
                f"context_length is {context_length}; it must be larger than drop_positions, {drop_positions}."
            )
        if validation_tokens < context_length:
            raise InputError(f"validation_tokens is {validation_tokens}, less than one context of {context_length}.")
        require_at_least(0, max_non_finite_sequences=max_non_finite_sequences)
        self.layout = StreamLayout(
            batch_size,
            block_sequences,
            lanes,
            drop_positions,
            lm_batch_sequences,
            max_norm_ratio,
            global_seed() if seed is None else seed,
        )
        if max_tokens is not None:
            require_at_least(1, max_tokens=max_tokens)
        self.model = LanguageModel(model_name, hook_name, dtype)
        self.model.require_positions(context_length)
        self.text = text or BundledText()
        self.context_length = context_length
        self.prepend_bos = prepend_bos
        self.max_non_finite_sequences = max_non_finite_sequences
        self.max_tokens = max_tokens
        self.scale_to: ScaleTo = scale_to
        self.center = center
        self.validation_tokens = validation_tokens
        self.predict_split = predict_split
        self.cache_dir = cache_dir
        self.statistics: InputStatistics | None = None
        self.norms: NormStatistics | None = None
        self.tokens: TokenStore | None = None
        self.stream: ActivationStream | None = None
        self.allowed_to_change: frozenset[str] = frozenset()
        self.changed: dict[str, list[Any]] = {}

    @property
    def d_in(self) -> int:
        """Width of the activations, from the model's config alone."""
        return self.model.d_in

    @property
    def batch_size(self) -> int:
        """Activations per step, over all ranks."""
        return self.layout.batch_size

    @property
    def lanes(self) -> int:
        """Independent parts of the stream, over all ranks."""
        return self.layout.lanes

    @property
    def max_norm(self) -> float | None:
        """The largest norm of an activation that training keeps, in raw units; None: training keeps all of them."""
        return None if self.norms is None or self.layout.max_norm_ratio is None else self.norms.limit

    def prepare_data(self) -> None:
        require_an_end(self.trainer)
        self.model.require_weights()
        self.tokens = self.tokenize()

    def setup(self, stage: str) -> None:
        assert self.trainer is not None
        require_an_end(self.trainer)
        self.tokens = self.tokens or self.tokenize()
        device = self.trainer.strategy.root_device
        if stage == "fit":
            self.stream = ActivationStream(
                self.model,
                self.tokens.train,
                self.layout,
                device,
                *self._ranks(),
                partial(steps_consumed, self.trainer),
                self.max_non_finite_sequences,
            )
        if stage in ("fit", "validate"):
            self._warn_of_little_held_out(len(self.tokens.held_out))
        self.model.load(device)

    def train_dataloader(self) -> ActivationStream:
        assert self.stream is not None
        if self.stream.max_norm != self.max_norm:
            self.stream.leave_out_above(self.max_norm)
        return self.stream

    def val_dataloader(self) -> HeldOutActivations:
        assert self.tokens is not None
        return self._in_order(self.tokens.held_out[: self.validation_tokens // self.context_length])

    def test_dataloader(self) -> HeldOutActivations:
        assert self.tokens is not None
        return self._in_order(self.tokens.held_out)

    def predict_dataloader(self) -> HeldOutActivations:
        assert self.tokens is not None
        return self._in_order(getattr(self.tokens, self.predict_split))

    def held_out_tokens(self, max_tokens: int) -> Iterator[Int[Tensor, "sequences position"]]:
        """This rank's share of the first held-out sequences, no more at a time than the model has logits for at once.

        Of as many whole sequences as `max_tokens` are, and at least one for each lane.
        """
        assert self.tokens is not None
        at_once = self.model.sequences_at_once(self.context_length)
        sequences = self.tokens.held_out[: max(max_tokens // self.context_length, self.lanes)]
        return self._in_order(sequences, min(at_once, self.layout.lm_batch_sequences)).tokens()

    def training_rows(self, rows: int) -> Iterator[Float[Tensor, "_ d_in"]]:
        """This rank's share of at least so many training rows, evenly spread over the text; no step is consumed."""
        assert self.tokens is not None
        sequences = spread(self.tokens.train, rows, self.layout.drop_positions, least=self.lanes)
        return (batch.activations.float() for batch in self._in_order(sequences))

    def input_statistics(self) -> InputScaling:
        """The scaling of the activations, estimated on the first block; equal on all ranks."""
        assert self.stream is not None
        self.norms = norm_statistics(self.stream.finite_rows(0), self.layout.max_norm_ratio or MASSIVE_RATIO)
        self.stream.leave_out_above(self.max_norm)
        self.statistics = input_statistics(self.stream.kept_rows(0))
        scaling = self.statistics.scaling(self.scale_to, self.center)
        rank_zero_info(
            f"activations: scaled by {float(scaling.scale):.4g}, {'' if self.center else 'not '}centred, "
            f"outlier severity gamma = ||mean|| / ||std|| = {self.statistics.outlier_severity:.3g}; "
            f"shuffle window {self.stream.shuffle_window:,} activations"
        )
        if self.norms.massive and self.max_norm is None:
            rank_zero_warn(f"activations: {self.norms.told(are_left_out=False)}")
        elif self.norms.massive:
            rank_zero_info(f"activations: {self.norms.told(are_left_out=True)}")
        return scaling

    def state_dict(self) -> dict[str, Any]:
        """The position: training steps consumed. It is the same on every rank, so rank 0's serves all."""
        assert self.trainer is not None
        statistics = self.statistics and self.statistics._asdict()
        return {
            "steps": steps_consumed(self.trainer),
            "layout": asdict(self.layout),
            "source": self._source(),
            "statistics": statistics,
            "norms": self.norms and self.norms._asdict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The trainer restores the count of steps; here the steps must mean the same rows as before.

        Raises:
            InputError: Training goes on with other sizes or another seed; or with another model, hook or text, which
                `allowed_to_change` does not name.
        """
        assert self.trainer is not None
        require_same_layout(self.trainer, state_dict["layout"], asdict(self.layout))
        saved, given = state_dict.get("source", {}), self._source()
        self.changed = require_same_source(self.trainer, saved, given, self.allowed_to_change)
        self.statistics = state_dict["statistics"] and InputStatistics(**state_dict["statistics"])
        norms = state_dict.get("norms")  # older checkpoints have none: they count every activation
        self.norms = norms and NormStatistics(**norms)

    def _source(self) -> dict[str, Any]:
        """What decides which activations there are, and in which units; the text by the tokens that it gave."""
        names = ("context_length", "prepend_bos", "max_tokens", "scale_to", "center")
        options = {name: getattr(self, name) for name in names}
        model = {"model_name": self.model.model_name, "hook_name": self.model.hook_name, "dtype": str(self.model.dtype)}
        tokens = {} if self.tokens is None else {"text": self.tokens.digests["train"][:16]}
        return model | options | tokens

    def tokenize(self) -> TokenStore:
        """The token store of this text, tokenizer and layout; made if there is none."""
        if self.model.begins_with_bos and not self.prepend_bos:
            rank_zero_warn(
                f"the tokenizer of {self.model.model_name!r} begins every text with its BOS token; sequences here "
                "begin without. Give --data.prepend_bos true if the model was trained with it."
            )
        return TokenStore.prepare(*self._tokens(), self.cache_dir, self.model.embeddings)

    def _warn_of_little_held_out(self, sequences: int) -> None:
        if sequences < self.validation_tokens // self.context_length:
            rank_zero_warn(
                f"validation_tokens is {self.validation_tokens:,}, but only {sequences * self.context_length:,} tokens "
                "are held out; validation reads those. Raise text.init_args.held_out_fraction, or ask for fewer."
            )

    def store_key(self) -> str:
        """The name of that store, from the state of its files alone."""
        return store_key(*self._tokens())

    def _tokens(self) -> "tuple[TextSource, PreTrainedTokenizerFast, int, bool, int | None]":
        return self.text, self.model.tokenizer, self.context_length, self.prepend_bos, self.max_tokens

    def _in_order(self, sequences: Sequences, at_once: int | None = None) -> HeldOutActivations:
        assert self.trainer is not None
        device: torch.device = self.trainer.strategy.root_device
        layout = replace(self.layout, lm_batch_sequences=at_once or self.layout.lm_batch_sequences)
        return HeldOutActivations(self.model, sequences, layout, device, *self._ranks(), max_norm=self.max_norm)

    def _ranks(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.global_rank, self.trainer.world_size

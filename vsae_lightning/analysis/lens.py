"""What a feature says of the next token: the logit lens on its decoder row."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from vsae_lightning.evaluation.evaluation import Track
from vsae_lightning.evaluation.subject import Subject

MAX_LOGITS = 2**25  # that are in memory together


class Lens(NamedTuple):
    """Of every feature the tokens whose logits its decoder row raises and lowers most, the strongest first.

    Attributes:
        promoted: Tokens.
        promoted_logits: Theirs, above the mean of the vocabulary.
        suppressed: Tokens.
        suppressed_logits: Theirs, below that mean.
    """

    promoted: Int[np.ndarray, "d_sae count"]
    promoted_logits: Float[np.ndarray, "d_sae count"]
    suppressed: Int[np.ndarray, "d_sae count"]
    suppressed_logits: Float[np.ndarray, "d_sae count"]


@torch.no_grad()
def logit_lens(subject: Subject, track: Track, count: int = 10) -> Lens | None:
    """Decoder rows as the language model's last layer reads them, see `LanguageModel.direct_logits`.

    Tokens are those of the tokenizer: some models have logits that none stands for.

    Returns:
        None where the activations do not reach the residual stream by a linear map.
    """
    model, W_dec = subject.model, subject.autoencoder.W_dec.detach()
    if not model.writes_linearly:
        return None
    tokens = len(model.tokenizer)
    step = max(1, MAX_LOGITS // tokens)
    parts = []
    for first in track(range(0, len(W_dec), step), -(-len(W_dec) // step), "logit lens"):
        logits = model.direct_logits(W_dec[first : first + step])[:, :tokens]
        logits -= logits.mean(-1, keepdim=True)
        largest, smallest = (logits.topk(min(count, tokens), largest=end) for end in (True, False))
        parts.append((largest.indices, largest.values, smallest.indices, smallest.values))
    return Lens(*(torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)))

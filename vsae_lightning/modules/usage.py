"""Which latents fire, and since when: the state that decides when a latent is dead."""

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

NOT_YET, NOT_KNOWN = -1, -2


class FeatureUsage(nn.Module):
    """For every latent, the training tokens since it last fired, and those that were seen when it first had.

    A batch counts as a whole: `first_fired` are the tokens seen at its end. A checkpoint of before it was kept has
    `NOT_KNOWN` there; a latent that has not fired since it was made or restarted has `NOT_YET`.
    """

    tokens_since_fired: Int[Tensor, " d_sae"]
    first_fired: Int[Tensor, " d_sae"]

    def __init__(self, d_sae: int) -> None:
        super().__init__()
        self.register_buffer("tokens_since_fired", torch.zeros(d_sae, dtype=torch.long))
        self.register_buffer("first_fired", torch.full((d_sae,), NOT_YET))
        self.register_load_state_dict_pre_hook(_add_first_fired)

    def update(self, firing_counts: Int[Tensor, " d_sae"], tokens: int, tokens_seen: int) -> None:
        """Count one batch.

        Args:
            firing_counts: Of the batch over all ranks.
            tokens: Of the batch over all ranks.
            tokens_seen: In training, with those of this batch.
        """
        fired = firing_counts > 0
        self.tokens_since_fired += tokens
        self.tokens_since_fired.masked_fill_(fired, 0)
        self.first_fired.masked_fill_(fired & (self.first_fired == NOT_YET), tokens_seen)

    def dead(self, after_tokens: int) -> Bool[Tensor, " d_sae"]:
        """The latents that fired in none of the last `after_tokens` tokens."""
        return self.tokens_since_fired >= after_tokens

    def restart(self, latents: Bool[Tensor, " d_sae"]) -> None:
        """Give `latents` the time to fire of one that fired just now; they are new, and have not fired yet."""
        self.tokens_since_fired.masked_fill_(latents, 0)
        self.first_fired.masked_fill_(latents, NOT_YET)


def _add_first_fired(usage: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    fired = state.get(f"{prefix}tokens_since_fired")
    if fired is not None:
        state.setdefault(f"{prefix}first_fired", torch.full_like(fired, NOT_KNOWN))

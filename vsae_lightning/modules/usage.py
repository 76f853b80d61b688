"""Which latents fire: the state that decides when a latent is dead."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn


class FeatureUsage(nn.Module):
    """For every latent, the number of training tokens since it last fired."""

    tokens_since_fired: Int[Tensor, " d_sae"]

    def __init__(self, d_sae: int) -> None:
        super().__init__()
        self.register_buffer("tokens_since_fired", torch.zeros(d_sae, dtype=torch.long))

    def update(self, firing_counts: Int[Tensor, " d_sae"], tokens: int) -> None:
        """Count one batch; `firing_counts` and `tokens` are those of the batch over all ranks."""
        self.tokens_since_fired += tokens
        self.tokens_since_fired.masked_fill_(firing_counts > 0, 0)

    def dead(self, after_tokens: int) -> Bool[Tensor, " d_sae"]:
        """The latents that fired in none of the last `after_tokens` tokens."""
        return self.tokens_since_fired >= after_tokens

    def restart(self, latents: Bool[Tensor, " d_sae"]) -> None:
        """Give `latents` the time to fire of one that fired just now."""
        self.tokens_since_fired.masked_fill_(latents, 0)

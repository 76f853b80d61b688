"""The fraction of latents that have stopped firing."""

from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from vsae_lightning.errors import InputError
from vsae_lightning.log_keys import is_logged, log_key

if TYPE_CHECKING:
    from vsae_lightning.modules.members import MembersModule


class DeadFeatures(Callback):
    """Logs `train/dead_fraction`: latents that fired in none of the last `window_tokens` training tokens.

    Before training has seen so many tokens, which latents are dead is not known, and nothing is logged.

    Args:
        window_tokens: Over all ranks; None: the module's `dead_after_tokens`, after which AuxK counts a
            latent as dead.

    Raises:
        InputError: window_tokens is smaller than 1.
    """

    def __init__(self, window_tokens: int | None = None) -> None:
        if window_tokens is not None and window_tokens < 1:
            raise InputError(f"dead_features.window_tokens is {window_tokens}; it must be at least 1.")
        self.window_tokens = window_tokens

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not is_logged(trainer, trainer.global_step):
            return
        for name, module in cast("MembersModule", pl_module).members().items():
            window = self.window_tokens or module.dead_after_tokens
            if module.tokens_seen >= window:
                dead = module.usage.dead(window)
                pl_module.log(log_key("train", name, "dead_fraction"), dead.float().mean())

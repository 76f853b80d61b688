"""What a run says of itself before its first step."""

from typing import TYPE_CHECKING

from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from vsae_lightning.autoencoders import kernels
from vsae_lightning.autoencoders.sharding import local
from vsae_lightning.modules.usage import NOT_KNOWN

if TYPE_CHECKING:
    from vsae_lightning.modules.base import AutoencoderModule


def announce(module: "AutoencoderModule", member: str = "") -> None:
    """Say by which products it trains; warn if the run is over before any latent can count as dead, and if it goes
    on from a checkpoint that does not say when latents first fired."""
    name = f"{member}: " if member else ""
    rank_zero_info(name + _products(module))
    tokens, window = _tokens(module), _window(module)
    if tokens is not None and tokens <= module.dead_after_tokens and _revives(module):
        rank_zero_warn(
            f"{name}The run has {tokens:,} tokens, and a latent counts as dead after {module.dead_after_tokens:,}: "
            "AuxK can never fire, nor resampling. Lower dead_after_tokens, or do without (aux_weight: 0)."
        )
    if tokens is not None and tokens < window:
        rank_zero_warn(
            f"{name}The run has {tokens:,} tokens, and a latent counts as dead after {window:,}: train/dead_fraction "
            "stays not known. Lower dead_after_tokens, or dead_features.window_tokens."
        )
    if (module.usage.first_fired == NOT_KNOWN).any():
        rank_zero_warn(f"{name}The checkpoint does not say when latents first fired; for these it stays not known.")


def _products(module: "AutoencoderModule") -> str:
    autoencoder = module.autoencoder
    choice = None if module.keep_all else autoencoder.sparsifier.choice(None)
    if choice is None:
        return "Dense products: the loss needs all latents."
    return kernels.description(local(autoencoder.W_dec), choice.k, len(local(autoencoder.W_dec)))


def _revives(module: "AutoencoderModule") -> bool:
    return module.aux_weight > 0 or module.resample_every_steps is not None


def _window(module: "AutoencoderModule") -> int:
    """The tokens after which the callback that logs dead latents counts one as dead."""
    windows = [getattr(callback, "window_tokens", None) for callback in getattr(module.trainer, "callbacks", [])]
    return next((window for window in windows if window is not None), module.dead_after_tokens)


def _tokens(module: "AutoencoderModule") -> int | None:
    """The training tokens of the run; None where they are not known."""
    trainer = module.trainer
    batch_size = getattr(getattr(trainer, "datamodule", None), "batch_size", None)
    if batch_size is None or trainer.max_steps < 0:
        return None
    tokens: int = trainer.max_steps * trainer.accumulate_grad_batches * batch_size
    return tokens

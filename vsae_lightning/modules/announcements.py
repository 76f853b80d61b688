"""What a run says of itself before its first step."""

from typing import TYPE_CHECKING

from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from vsae_lightning.autoencoders import kernels
from vsae_lightning.autoencoders.sharding import local
from vsae_lightning.modules.usage import NOT_KNOWN

if TYPE_CHECKING:
    from vsae_lightning.modules.base import AutoencoderModule


def announce(module: "AutoencoderModule", member: str = "") -> None:
    """Say by which products it trains; warn if the run is over before AuxK or resampling can begin, and if it goes on
    from a checkpoint that does not say when latents first fired."""
    name = f"{member}: " if member else ""
    rank_zero_info(name + _products(module))
    if (tokens := _too_few_tokens(module)) is not None:
        rank_zero_warn(
            f"{name}The run has {tokens:,} tokens, and a latent counts as dead after {module.dead_after_tokens:,}: "
            "AuxK can never fire, nor resampling. Lower dead_after_tokens, or do without (aux_weight: 0)."
        )
    if (module.usage.first_fired == NOT_KNOWN).any():
        rank_zero_warn(f"{name}The checkpoint does not say when latents first fired; for these it stays not known.")


def _products(module: "AutoencoderModule") -> str:
    autoencoder = module.autoencoder
    choice = None if module.keep_all else autoencoder.sparsifier.choice(None)
    if choice is None:
        return "Dense products: the loss needs all latents."
    return kernels.description(local(autoencoder.W_dec), choice.k, len(local(autoencoder.W_dec)))


def _too_few_tokens(module: "AutoencoderModule") -> int | None:
    """The tokens of the run, if no latent can be dead in it by then and that would matter."""
    trainer = module.trainer
    batch_size = getattr(getattr(trainer, "datamodule", None), "batch_size", None)
    idle = module.aux_weight == 0 and module.resample_every_steps is None
    if batch_size is None or idle or trainer.max_steps < 0:
        return None
    tokens: int = trainer.max_steps * trainer.accumulate_grad_batches * batch_size
    return tokens if tokens <= module.dead_after_tokens else None

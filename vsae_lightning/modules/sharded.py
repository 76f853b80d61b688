"""What is refused where latents are sharded over ranks."""

from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.errors import InputError
from vsae_lightning.sharded_strategy import ShardedStrategy


def require_shardable(module: LightningModule, autoencoder: SparseAutoencoder) -> None:
    """Raise `InputError` for what would not be equal to the same run with all latents on every rank."""
    trainer = module.trainer
    resample_every_steps = getattr(module, "resample_every_steps", None)
    ranks, sparsifier = trainer.world_size, type(autoencoder.sparsifier).__name__
    prior = getattr(module, "prior", None)
    own = [name for name, _ in module.named_parameters() if not name.startswith("autoencoder.")]
    refusals = {
        f"trainer.strategy is {type(trainer.strategy).__name__}; to shard latents use ShardedStrategy": (
            not isinstance(trainer.strategy, ShardedStrategy)
        ),
        f"d_sae is {autoencoder.d_sae}; sharded, it must be a multiple of the {ranks} ranks": (
            autoencoder.d_sae % ranks != 0
        ),
        f"{sparsifier} compares latents in a way that is not sharded; use TopK, ReLU, JumpReLU, Gated or Dense": (
            not autoencoder.sparsifier.can_shard
        ),
        f"resample_every_steps is {resample_every_steps}; latents that are sharded are not restarted: set it "
        "to null": resample_every_steps is not None,
        "torch_compile is true; passes that exchange between ranks are not compiled: set it to false": (
            module.hparams.get("torch_compile", False)
        ),
        f"{type(prior).__name__} has a KL that is not a sum over latents; it is not sharded": (
            prior is not None and not prior.separable
        ),
        f"{', '.join(own)}: learned, but not of single latents; it is not sharded": bool(own),
        "predict writes latents of all of d_sae; take a strategy that does not shard, e.g. --trainer.strategy auto "
        "--trainer.devices 1": trainer.state.fn == TrainerFn.PREDICTING,
    }
    for reason, applies in refusals.items():
        if applies:
            raise InputError(f"{type(module).__name__}: {reason}.")
    if hasattr(getattr(trainer, "datamodule", None), "dictionary"):
        rank_zero_warn(
            "While latents are sharded, what is found of the known dictionary is not measured; test unsharded."
        )

"""Train, evaluate and compare sparse and variational sparse autoencoders on live activations.

The names below are imported when first used, so that `import vsae_lightning` costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsae_lightning.autoencoders.base import SparseAutoencoder
    from vsae_lightning.autoencoders.gates import Gated, JumpReLU
    from vsae_lightning.autoencoders.matryoshka import Matryoshka
    from vsae_lightning.autoencoders.priors import (
        CorrelatedNormal,
        Laplace,
        Prior,
        ScaledNormal,
        SpikeAndSlab,
        StandardNormal,
    )
    from vsae_lightning.autoencoders.sparsifiers import Dense, ReLU, Sparsifier
    from vsae_lightning.autoencoders.storage import save
    from vsae_lightning.autoencoders.topk import BatchTopK, ProbabilisticTopK, TopK
    from vsae_lightning.autoencoders.variational import VariationalAutoencoder
    from vsae_lightning.data.datamodule import ActivationDataModule
    from vsae_lightning.data.synthetic import SyntheticDataModule
    from vsae_lightning.data.text import BundledText, HuggingFaceText, TextFiles, TextSource
    from vsae_lightning.errors import InputError
    from vsae_lightning.latent_shards import read_latents
    from vsae_lightning.loading import load
    from vsae_lightning.modules.ensemble import Ensemble
    from vsae_lightning.modules.sae import SAE
    from vsae_lightning.modules.schedules import WarmupDecay
    from vsae_lightning.modules.vsae import VSAE
    from vsae_lightning.sharded_strategy import ShardedStrategy

_HOMES = {
    "SparseAutoencoder": "autoencoders.base",
    "Gated": "autoencoders.gates",
    "JumpReLU": "autoencoders.gates",
    "Matryoshka": "autoencoders.matryoshka",
    "CorrelatedNormal": "autoencoders.priors",
    "Laplace": "autoencoders.priors",
    "Prior": "autoencoders.priors",
    "ScaledNormal": "autoencoders.priors",
    "SpikeAndSlab": "autoencoders.priors",
    "StandardNormal": "autoencoders.priors",
    "Dense": "autoencoders.sparsifiers",
    "ReLU": "autoencoders.sparsifiers",
    "Sparsifier": "autoencoders.sparsifiers",
    "save": "autoencoders.storage",
    "BatchTopK": "autoencoders.topk",
    "ProbabilisticTopK": "autoencoders.topk",
    "TopK": "autoencoders.topk",
    "VariationalAutoencoder": "autoencoders.variational",
    "ActivationDataModule": "data.datamodule",
    "SyntheticDataModule": "data.synthetic",
    "BundledText": "data.text",
    "HuggingFaceText": "data.text",
    "TextFiles": "data.text",
    "TextSource": "data.text",
    "InputError": "errors",
    "read_latents": "latent_shards",
    "load": "loading",
    "Ensemble": "modules.ensemble",
    "SAE": "modules.sae",
    "WarmupDecay": "modules.schedules",
    "VSAE": "modules.vsae",
    "ShardedStrategy": "sharded_strategy",
}

__version__ = version("vsae_lightning")
__all__ = [
    "SAE",
    "VSAE",
    "ActivationDataModule",
    "BatchTopK",
    "BundledText",
    "CorrelatedNormal",
    "Dense",
    "Ensemble",
    "Gated",
    "HuggingFaceText",
    "InputError",
    "JumpReLU",
    "Laplace",
    "Matryoshka",
    "Prior",
    "ProbabilisticTopK",
    "ReLU",
    "ScaledNormal",
    "ShardedStrategy",
    "SparseAutoencoder",
    "Sparsifier",
    "SpikeAndSlab",
    "StandardNormal",
    "SyntheticDataModule",
    "TextFiles",
    "TextSource",
    "TopK",
    "VariationalAutoencoder",
    "WarmupDecay",
    "__version__",
    "load",
    "read_latents",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

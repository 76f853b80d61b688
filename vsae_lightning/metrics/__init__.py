"""torchmetrics classes over a split; their states are sums, so ranks and batches add up exactly."""

from vsae_lightning.metrics.dictionary import (
    FeatureRecovery,
    Matching,
    MeanKL,
    SigmaCalibration,
    latent_units,
    match_latents,
)
from vsae_lightning.metrics.language_model import (
    LanguageModelLosses,
    Losses,
    cross_entropies,
    kl_divergences,
    recovered,
)
from vsae_lightning.metrics.losses import RowMeans
from vsae_lightning.metrics.reconstruction import (
    ExplainedVariance,
    ExplainedVariances,
    MeanActivation,
    Recalibration,
    ReconstructionCosine,
    ReconstructionError,
    Shrinkage,
)
from vsae_lightning.metrics.saebench import SAEBenchReconstruction
from vsae_lightning.metrics.sparsity import L0, DensityHistogram, FeatureDensity, density_histogram

__all__ = [
    "L0",
    "DensityHistogram",
    "ExplainedVariance",
    "ExplainedVariances",
    "FeatureDensity",
    "FeatureRecovery",
    "LanguageModelLosses",
    "Losses",
    "Matching",
    "MeanActivation",
    "MeanKL",
    "Recalibration",
    "ReconstructionCosine",
    "ReconstructionError",
    "RowMeans",
    "SAEBenchReconstruction",
    "Shrinkage",
    "SigmaCalibration",
    "cross_entropies",
    "density_histogram",
    "kl_divergences",
    "latent_units",
    "match_latents",
    "recovered",
]

"""torchmetrics classes over a split; their states are sums, so ranks and batches add up exactly."""

from vsae_lightning.metrics.dictionary import (
    FeatureRecovery,
    Matching,
    MeanKL,
    SigmaCalibration,
    latent_units,
    match_latents,
)
from vsae_lightning.metrics.losses import RowMeans
from vsae_lightning.metrics.reconstruction import ExplainedVariance, ReconstructionCosine
from vsae_lightning.metrics.sparsity import L0, DeadFraction

__all__ = [
    "L0",
    "DeadFraction",
    "ExplainedVariance",
    "FeatureRecovery",
    "Matching",
    "MeanKL",
    "ReconstructionCosine",
    "RowMeans",
    "SigmaCalibration",
    "latent_units",
    "match_latents",
]

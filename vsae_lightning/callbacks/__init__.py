"""Callbacks: what is watched while an autoencoder trains, and what is written."""

from vsae_lightning.callbacks.dead_features import DeadFeatures
from vsae_lightning.callbacks.dictionary_recovery import DictionaryRecovery
from vsae_lightning.callbacks.feature_examples import FeatureExamples
from vsae_lightning.callbacks.interruption import Interruption
from vsae_lightning.callbacks.last_checkpoint import LastCheckpoint
from vsae_lightning.callbacks.latent_map import LatentMap
from vsae_lightning.callbacks.latents_writer import LatentsWriter
from vsae_lightning.callbacks.loss_recovered import LossRecovered
from vsae_lightning.callbacks.progress import TrainingProgress
from vsae_lightning.callbacks.skipped_steps import SkippedSteps
from vsae_lightning.callbacks.sparsity import Sparsity
from vsae_lightning.callbacks.throughput import Throughput

__all__ = [
    "DeadFeatures",
    "DictionaryRecovery",
    "FeatureExamples",
    "Interruption",
    "LastCheckpoint",
    "LatentMap",
    "LatentsWriter",
    "LossRecovered",
    "SkippedSteps",
    "Sparsity",
    "Throughput",
    "TrainingProgress",
]

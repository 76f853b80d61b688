"""Latents of a concept, and what a probe says without them (SAEBench evals/scr_and_tpp/main.py)."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.evaluation.concept_probes import Examples
from vsae_lightning.evaluation.text_means import TextMeans


class Readout(NamedTuple):
    """Probes, and what they see of each latent.

    Attributes:
        weights: Of the probes.
        biases: Of the probes.
        of_latents: w . W_dec[j], of every latent and probe.
        at_zero: The latents of an activation that is zero.
    """

    weights: Float[Tensor, "probes d_in"]
    biases: Float[Tensor, " probes"]
    of_latents: Float[Tensor, "d_sae probes"]
    at_zero: Float[Tensor, " d_sae"]

    def logits(self, texts: TextMeans) -> Float[Tensor, "texts probes"]:
        """Of texts as they are."""
        return texts.activations @ self.weights.T + self.biases

    def of_ablated(self, texts: TextMeans, ablated: Bool[Tensor, " d_sae"]) -> Float[Tensor, "texts probes"]:
        """What the ablated latents give to the logits: sum over them of mean latent times `of_latents`.

        The ablated activation of a token is x - sum_j f_j(x) W_dec[j], with the error of the reconstruction kept. As
        in SAEBench the positions that are left out, whose activations are set to zero, take part in the sum over
        ablated activations: latents that are active at zero count once for each of them.
        """
        which = ablated.nonzero()[:, 0]
        of_latents = self.of_latents[which]
        of_tokens = torch.from_numpy(texts.latents[:, which.numpy()] @ of_latents.numpy())
        return of_tokens + texts.left_out[:, None] * (self.at_zero[which] @ of_latents)


@torch.no_grad()
def readout(autoencoder: SparseAutoencoder, probes: list[nn.Linear]) -> Readout:
    """Of probes on the CPU; the autoencoder may be elsewhere."""
    weights = torch.cat([probe.weight for probe in probes])
    biases = torch.cat([probe.bias for probe in probes])
    of_latents = autoencoder.W_dec @ weights.to(autoencoder.W_dec).T
    at_zero = autoencoder.encode(autoencoder.W_dec.new_zeros(1, autoencoder.d_in))[0]
    return Readout(weights, biases, of_latents.cpu(), at_zero.cpu())


def mean_difference(texts: TextMeans, examples: Examples) -> Float[Tensor, " d_sae"]:
    """The mean latents of the examples with label 1, minus those of the examples with label 0."""
    rows, labels = examples.rows.numpy(), examples.labels.numpy()
    weights = np.zeros(len(texts.left_out))
    np.add.at(weights, rows, np.where(labels == 1, 1 / (labels == 1).sum(), -1 / (labels == 0).sum()))
    return torch.from_numpy((weights @ texts.latents).astype(np.float32))


def strongest(effects: Float[Tensor, " d_sae"], n: int) -> Bool[Tensor, " d_sae"]:
    """The n latents of the largest effect; no more than there are with an effect that is not zero."""
    chosen: Int[Tensor, " some"] = effects.topk(min(n, int((effects != 0).sum()))).indices
    return torch.zeros_like(effects, dtype=torch.bool).index_fill(0, chosen, True)

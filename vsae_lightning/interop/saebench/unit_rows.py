"""Our autoencoder with decoder rows of norm 1, as SAEBench has it of every SAE that it downloads."""

import torch
from torch import Tensor

from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.interop.saebench.adapter import AutoencoderForSAEBench


class UnitRowsForSAEBench(AutoencoderForSAEBench):
    """Latents are multiplied with the norms of the decoder rows, which are divided by them; the same otherwise."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        norms = subject.autoencoder.W_dec.norm(dim=-1)
        self.register_buffer("norms", norms)
        self.W_enc.data = self.W_enc.data * norms
        self.b_enc.data = self.b_enc.data * norms
        self.W_dec.data = torch.nn.functional.normalize(self.W_dec.data, dim=-1)

    def encode(self, x: Tensor) -> Tensor:
        return super().encode(x) * self.norms.to(x.dtype)

    def decode(self, feature_acts: Tensor) -> Tensor:
        return super().decode(feature_acts / self.norms.to(feature_acts.dtype))

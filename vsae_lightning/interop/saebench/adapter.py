"""Our autoencoder as SAEBench's `BaseSAE`, and our language model where SAEBench would load its own."""

from typing import Any

import torch
from sae_bench.custom_saes.base_sae import BaseSAE
from torch import Tensor, nn

from vsae_lightning.evaluation.results import sae_config
from vsae_lightning.evaluation.subject import Subject


class AutoencoderForSAEBench(BaseSAE):
    """An autoencoder of ours with the attributes and the signatures that SAEBench expects.

    Latents and reconstructions are those of ours; its posterior mean in the case of a vSAE. Its decoder rows have
    the norms that fold the input scaling, so SAEBench warns that they are not 1.
    """

    def __init__(self, subject: Subject) -> None:
        config = sae_config(subject)
        super().__init__(
            config["d_in"],
            config["d_sae"],
            config["model_name"],
            config["hook_layer"],
            subject.device,
            torch.float32,
            config["hook_name"],
        )
        self.autoencoder = subject.autoencoder
        for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            setattr(self, name, nn.Parameter(getattr(subject.autoencoder, name), requires_grad=False))
        self.cfg.architecture = config["architecture"]
        self.cfg.context_size = config["context_size"]
        self.cfg.prepend_bos = config["prepend_bos"]
        self.cfg.device = str(subject.device)

    def encode(self, x: Tensor) -> Tensor:
        return self.autoencoder.encode(x.float()).to(x.dtype)

    def decode(self, feature_acts: Tensor) -> Tensor:
        return self.autoencoder.decode(feature_acts.float()).to(feature_acts.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.autoencoder(x.float()).to(x.dtype)


def bridge(subject: Subject) -> Any:
    """The TransformerBridge of the subject's language model, for what SAEBench calls a HookedTransformer."""
    return subject.model.bridge

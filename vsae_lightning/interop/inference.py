"""An autoencoder as it computes in evaluation, and the changes of its form that leave that as it is."""

import torch
from jaxtyping import Float
from torch import Tensor

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.gates import Gated, JumpReLU
from vsae_lightning.autoencoders.matryoshka import Matryoshka
from vsae_lightning.autoencoders.sparsifiers import Dense, ReLU, Sparsifier
from vsae_lightning.autoencoders.topk import BatchTopK, ProbabilisticTopK, TopK
from vsae_lightning.errors import InputError

NOT_COMMON = 5e-6


def assembled(
    weights: dict[str, Tensor], sparsifier: Sparsifier, pre_bias: bool, parameters: dict[str, Tensor] | None = None
) -> SparseAutoencoder:
    """An autoencoder of given weights, which become float32.

    Args:
        weights: W_enc, b_enc, W_dec and b_dec, that fit each other.
        sparsifier: What selects the latents.
        pre_bias: Whether b_dec is subtracted before encoding.
        parameters: Of the sparsifier, by their names in it; others keep what they start with.
    """
    d_sae, d_in = weights["W_dec"].shape
    autoencoder = SparseAutoencoder(d_in, d_sae, sparsifier, pre_bias=pre_bias, decoder="free")
    own = {f"sparsifier.{name}": value for name, value in (parameters or {}).items()}
    autoencoder.load_state_dict({**autoencoder.state_dict(), **weights, **own})
    return autoencoder.eval().requires_grad_(False)


def deployed(autoencoder: SparseAutoencoder) -> SparseAutoencoder:
    """A copy, without what only training needs, that computes in evaluation the same.

    A vSAE becomes the autoencoder of its posterior mean; an aligned encoder the free one that it is. What selects is
    TopK by value, BatchTopK, JumpReLU, ReLU or Gated, or one of them in a Matryoshka. Latents that cannot be
    negative (`relu_mean`) make of Dense a ReLU, and of TopK by magnitude one by value.

    Raises:
        InputError: Its latents may be negative, as with Dense and TopK by magnitude: no other library has such.
    """
    sparsifier = _in_evaluation(autoencoder.sparsifier, getattr(autoencoder, "relu_mean", False))
    weights = {name: getattr(autoencoder, name).detach().cpu() for name in ("b_enc", "W_dec", "b_dec")}
    weights["W_enc"] = autoencoder.encoder_weights().detach().cpu()
    return assembled(weights, sparsifier, autoencoder.pre_bias, autoencoder.sparsifier.state_dict())


def selecting(sparsifier: Sparsifier) -> Sparsifier:
    """What selects the latents: of a Matryoshka the sparsifier in it."""
    return sparsifier.sparsifier if isinstance(sparsifier, Matryoshka) else sparsifier


@torch.no_grad()
def set_pre_bias_(autoencoder: SparseAutoencoder, pre_bias: bool) -> None:
    """Subtract b_dec before encoding, or do not, in place: b_enc takes up the difference W_enc^T b_dec."""
    if pre_bias != autoencoder.pre_bias:
        difference = autoencoder.b_dec.double() @ autoencoder.W_enc.double()
        autoencoder.b_enc.add_(difference if pre_bias else -difference)
    autoencoder.pre_bias = pre_bias


@torch.no_grad()
def scale_latents_(autoencoder: SparseAutoencoder, factors: Float[Tensor, " d_sae"]) -> None:
    """Multiply latent j, pre-activation and threshold too, by factors[j] > 0, and divide its row of W_dec by it.

    Where latents are compared with each other (TopK), that changes the selection unless all factors are equal; where
    they have one threshold (BatchTopK), they must be.
    """
    autoencoder.W_enc.mul_(factors)
    autoencoder.b_enc.mul_(factors)
    autoencoder.W_dec.div_(factors[:, None])
    sparsifier = selecting(autoencoder.sparsifier)
    if isinstance(sparsifier, JumpReLU):
        sparsifier.log_threshold.add_(factors.log())
    elif isinstance(sparsifier, Gated):
        sparsifier.b.mul_(factors)
    elif isinstance(sparsifier, TopK | BatchTopK):
        value = sparsifier.threshold.value
        value.mul_(torch.where(value > 0, factors[0], 1.0))  # below 0 it says that there is none


def common_norm(W_dec: Float[Tensor, "d_sae d_in"]) -> Float[Tensor, ""] | None:
    """The norm of all decoder rows, to 5e-6; None where they differ."""
    norms = W_dec.double().norm(dim=-1)
    mean = norms.mean()
    return mean if ((norms / mean - 1).abs() < NOT_COMMON).all() else None


def _in_evaluation(sparsifier: Sparsifier, not_negative: bool) -> Sparsifier:
    if isinstance(sparsifier, Matryoshka):
        return Matryoshka(_in_evaluation(sparsifier.sparsifier, not_negative), sparsifier.sizes)
    if isinstance(sparsifier, Dense) and not_negative:
        return ReLU()
    if isinstance(sparsifier, ProbabilisticTopK) or (
        isinstance(sparsifier, TopK) and (not_negative or sparsifier.by == "value")
    ):
        return TopK(sparsifier.k)
    if isinstance(sparsifier, BatchTopK):
        return BatchTopK(sparsifier.k)
    if isinstance(sparsifier, JumpReLU | ReLU | Gated):
        return sparsifier
    how = " by magnitude" if isinstance(sparsifier, TopK) else ""
    raise InputError(
        f"format: {type(sparsifier).__name__}{how} cannot be expressed by other libraries: "
        "its latents may be negative; use --format safetensors."
    )

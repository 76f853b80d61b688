"""An autoencoder of every kind that can be exported, as `vl.load` gives one: its input scaling folded, none trivial."""

from collections.abc import Callable
from typing import Any

import torch

import vsae_lightning as vl

D_IN, D_SAE, K = 8, 32, 5
SPARSIFIERS: dict[str, Callable[[], vl.Sparsifier]] = {
    "topk": lambda: vl.TopK(K),
    "batchtopk": lambda: vl.BatchTopK(K),
    "jumprelu": vl.JumpReLU,
    "relu": vl.ReLU,
    "gated": vl.Gated,
    "probabilistic": lambda: vl.ProbabilisticTopK(K, 0.5),
    "matryoshka topk": lambda: vl.Matryoshka(vl.TopK(K), [8, 16]),
    "matryoshka batchtopk": lambda: vl.Matryoshka(vl.BatchTopK(K), [8, 16]),
}
KINDS: dict[str, dict[str, Any]] = {
    **{name: {"sparsifier": name} for name in SPARSIFIERS},
    **{f"{name}, no pre_bias": {"sparsifier": name, "pre_bias": False} for name in SPARSIFIERS},
    **{
        f"vsae {name}": {"sparsifier": name, "sigma": "learned"}
        for name in ("topk", "batchtopk", "jumprelu", "relu", "gated", "matryoshka topk")
    },
    "vsae relu_mean": {"sparsifier": "topk", "sigma": 0.3, "relu_mean": True},
    "vsae of the encoder": {"sparsifier": "topk", "sigma": 0.25, "covariance": "encoder"},
    "vsae closed form": {"sparsifier": "batchtopk", "sigma": "closed_form"},
    "aligned": {"sparsifier": "topk", "encoder": "aligned"},
}


def made(sparsifier: str, seed: int = 0, unit: bool = True, **options: Any) -> vl.SparseAutoencoder:
    """One with random weights, trained as it were on 0.13 * (x - mean); `unit`: with rows of one norm."""
    cls = vl.VariationalAutoencoder if "sigma" in options else vl.SparseAutoencoder
    autoencoder = cls(D_IN, D_SAE, SPARSIFIERS[sparsifier](), decoder="unit" if unit else "free", **options)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in autoencoder.named_parameters():
        if name != "W_dec":
            parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    if not unit:
        autoencoder.W_dec.data.mul_(0.5 + torch.rand(D_SAE, 1, generator=generator))
    for name, buffer in autoencoder.named_buffers():
        if name.endswith("threshold.value"):
            buffer.fill_(0.4)
    autoencoder.fold_input_scaling(5 * torch.randn(D_IN, generator=generator), torch.tensor(0.13))
    return autoencoder.eval().requires_grad_(False)


def rows(seed: int = 1, number: int = 64) -> torch.Tensor:
    """Raw activations, of the scale and about the mean that `made` takes them to have."""
    generator = torch.Generator().manual_seed(seed)
    return 8 * torch.randn(number, D_IN, generator=generator)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, in units of the largest expected value."""
    return float(((found - expected).abs().max() / expected.abs().max()).detach())

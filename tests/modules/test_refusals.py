"""Options that exclude each other are refused when the module is built, by name and with the reason."""

from typing import Any

import pytest

import vsae_lightning as vl

D_IN, D_SAE = 4, 8

CONTRADICTIONS: list[Any] = [
    # The covariance of the encoder.
    ({"covariance": "encoder", "sigma": 0.5}, "kl_weight must be 0 with covariance: encoder"),
    ({"covariance": "encoder", "sigma": 0.5, "kl_weight": "elbo"}, "kl_weight must be 0 with covariance: encoder"),
    (
        {"covariance": "encoder", "sigma": 0.5, "kl_weight": 0.0, "select": "mean"},
        "select must be sample with covariance: encoder",
    ),
    ({"covariance": "encoder", "sigma": "learned", "kl_weight": 0.0}, "sigma is 'learned'; with covariance: encoder"),
    ({"covariance": "encoder", "sigma": "closed_form", "kl_weight": 0.0}, "sigma is 'closed_form'; with covariance"),
    ({"covariance": "encoder", "sigma": 0.0, "kl_weight": 0.0}, "sigma is 0.0; with covariance: encoder"),
    ({"covariance": "encoder", "sigma": 0.5, "kl_weight": 0.0, "relu_mean": True}, "relu_mean is true"),
    # Sigma.
    ({"sigma": -0.1}, "sigma is -0.1; it must be 0"),
    ({"sigma": float("nan")}, "sigma is nan"),
    (
        {"sigma": "learned", "sigma_warmup_steps": 5, "kl_weight": 0.0},
        "sigma_warmup_steps is for a sigma that is a num",
    ),
    ({"sigma": "closed_form", "sigma_warmup_steps": 5, "kl_weight": 0.0}, "sigma_warmup_steps .* not 'closed_form'"),
    ({"sigma": 0.5, "sigma_warmup_steps": 5}, "sigma_warmup_steps starts at sigma 0, .* set kl_weight to 0"),
    ({"sigma": 0.5, "sigma_warmup_steps": -1}, "sigma_warmup_steps is -1"),
    ({"sigma": "closed_form", "prior": vl.Laplace()}, "sigma must be .* with Laplace"),
    ({"sigma": "closed_form", "prior": vl.SpikeAndSlab()}, "sigma must be .* with SpikeAndSlab"),
    ({"sigma": "closed_form", "prior": vl.CorrelatedNormal(0.5)}, "sigma must be .* with CorrelatedNormal"),
    ({"sigma": 0.5, "sparsifier": vl.ProbabilisticTopK(2, 1.0)}, "sigma is 0.5; .*ProbabilisticTopK.* must be 0"),
    ({"sigma": "learned", "sparsifier": vl.ProbabilisticTopK(2, 1.0)}, "sigma is 'learned'; .*ProbabilisticTopK"),
    (
        {"sigma": 0.5, "sparsifier": vl.Matryoshka(vl.ProbabilisticTopK(2, 1.0), [4])},
        "sigma is 0.5; .*ProbabilisticTopK",
    ),
    # Priors.
    ({"prior": vl.CorrelatedNormal(0.5)}, "kl_on must be all with CorrelatedNormal"),
    ({"prior": vl.SpikeAndSlab()}, "kl_on must be all with SpikeAndSlab"),
    (
        {"prior": vl.CorrelatedNormal(0.5), "kl_on": "all", "free_bits": 0.1},
        "free_bits must be 0 with CorrelatedNormal",
    ),
    ({"prior": vl.CorrelatedNormal(0.5, 3), "kl_on": "all"}, "block_size is 3; it must divide d_sae, 8"),
    ({"prior": vl.SpikeAndSlab(), "kl_on": "all", "sigma": 0.0}, "sigma must not be 0 with SpikeAndSlab"),
    (
        {"prior": vl.SpikeAndSlab(), "kl_on": "all", "sparsifier": vl.Dense()},
        "SpikeAndSlab needs a sparsifier with a threshold, not Dense",
    ),
    (
        {"prior": vl.SpikeAndSlab(), "kl_on": "all", "sparsifier": vl.TopK(2, by="magnitude")},
        "SpikeAndSlab needs a sparsifier with a threshold, not TopK",
    ),
    (
        {"prior": vl.SpikeAndSlab(), "kl_on": "all", "sparsifier": vl.Matryoshka(vl.Dense(), [4])},
        "SpikeAndSlab needs a sparsifier with a threshold, not Matryoshka",
    ),
    # Weights.
    ({"sparsifier": vl.JumpReLU(), "kl_weight": 0.0}, "sparsity_weight is 0: JumpReLU"),
    ({"sparsifier": vl.JumpReLU(), "kl_on": "selected"}, "sparsity_weight is 0: JumpReLU"),
    ({"sparsifier": vl.Gated(), "kl_weight": 0.0}, "sparsity_weight is 0: Gated"),
    ({"kl_weight": -0.5}, "kl_weight is -0.5"),
    ({"kl_weight": float("nan")}, "kl_weight is nan"),
    ({"kl_warmup_steps": -3}, "kl_warmup_steps is -3"),
    ({"free_bits": -0.1}, "free_bits is -0.1"),
]


@pytest.mark.parametrize(("options", "message"), CONTRADICTIONS)
def test_vsae(options: dict[str, Any], message: str) -> None:
    with pytest.raises(vl.InputError, match=message):
        vl.VSAE(D_IN, D_SAE, **{"sparsifier": vl.TopK(2), **options})


SHARED: list[Any] = [
    ({"sparsity_weight": -1.0}, "sparsity_weight is -1.0"),
    ({"sparsity_warmup_steps": -1}, "sparsity_warmup_steps is -1"),
    ({"gate_kl_weight": -0.5}, "gate_kl_weight is -0.5"),
    ({"gate_kl_warmup_steps": -5}, "gate_kl_warmup_steps is -5"),
    ({"aux_weight": -1.0}, "aux_weight is -1.0"),
    ({"dead_after_tokens": 0}, "dead_after_tokens is 0"),
    ({"resample_every_steps": 0}, "resample_every_steps is 0"),
    ({"resample_every_steps": -2}, "resample_every_steps is -2"),
    ({"decoder_norm": 0.5}, "decoder_norm is 0.5; it must be 1 with decoder: unit"),
    ({"decoder_norm": float("nan"), "decoder": "free"}, "decoder_norm is nan; it must be positive"),
]


@pytest.mark.parametrize("kind", [vl.SAE, vl.VSAE])
@pytest.mark.parametrize(("options", "message"), SHARED)
def test_what_both_refuse(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(vl.InputError, match=message):
        kind(D_IN, D_SAE, vl.TopK(2), **options)


@pytest.mark.parametrize("sparsifier", [vl.JumpReLU(), vl.Gated()])
def test_sae_without_the_penalty_a_sparsifier_needs(sparsifier: vl.Sparsifier) -> None:
    with pytest.raises(vl.InputError, match=f"sparsity_weight is 0, but .*{type(sparsifier).__name__}"):
        vl.SAE(D_IN, D_SAE, sparsifier)


ALLOWED: list[Any] = [
    {"covariance": "encoder", "sigma": 0.5, "kl_weight": 0.0, "sigma_warmup_steps": 5},
    {"sigma": 0.5, "kl_weight": 0.0, "sigma_warmup_steps": 5},
    {"sigma": 0.0, "sparsifier": vl.ProbabilisticTopK(2, 1.0)},
    {"sigma": "closed_form", "prior": vl.ScaledNormal()},
    {"prior": vl.CorrelatedNormal(0.5), "kl_on": "all"},
    {"prior": vl.SpikeAndSlab(), "kl_on": "all", "sparsifier": vl.JumpReLU()},
    {"prior": vl.SpikeAndSlab(), "kl_on": "all", "sparsifier": vl.Matryoshka(vl.BatchTopK(2), [4])},
    {"sparsifier": vl.Gated(), "kl_on": "all"},
    {"kl_weight": "elbo", "free_bits": 0.2},
]


@pytest.mark.parametrize("options", ALLOWED)
def test_near_misses_are_not_refused(options: dict[str, Any]) -> None:
    module = vl.VSAE(D_IN, D_SAE, **{"sparsifier": vl.TopK(2), **options})
    assert module.autoencoder.d_sae == D_SAE


@pytest.mark.parametrize("options", [{"sigma": 0.0}, {"sigma": 0.5, "kl_weight": 0.0}])
def test_a_scale_that_nothing_would_teach(options: dict[str, Any]) -> None:
    with pytest.raises(vl.InputError, match="scale must not be learned in ScaledNormal"):
        vl.VSAE(4, 8, vl.TopK(2), prior=vl.ScaledNormal("learned"), **options)


def test_a_prior_without_a_weight_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="kl_weight is 0: the prior has no effect"):
        vl.VSAE(4, 8, vl.TopK(2), sigma=0.5, kl_weight=0.0, prior=vl.Laplace())

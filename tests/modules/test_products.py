"""Every choice with every other: sparsifier x posterior x prior x annealing. Two right parts may be wrong together."""

from collections.abc import Callable
from functools import partial
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

import vsae_lightning as vl
from fixed_rows import D_IN, rows, trained
from vsae_lightning.modules.base import AutoencoderModule

D_SAE, K, STEPS, STOP = 48, 4, 12, 5
ADAM = partial(torch.optim.Adam, lr=3e-3)
ANNEALED = {"k_start": 10, "k_anneal_steps": 8}
OPTIONS: dict[str, Any] = {"dead_after_tokens": 2048, "optimizer": ADAM, "seed": 2}

Build = Callable[..., vl.Sparsifier]
WITH_K: dict[str, Build] = {
    "topk": vl.TopK,
    "magnitude": partial(vl.TopK, by="magnitude"),
    "probabilistic": partial(vl.ProbabilisticTopK, temperature=0.5),
    "batch": vl.BatchTopK,
    "nested batch": lambda **k: vl.Matryoshka(vl.BatchTopK(**k), [8, 24]),
}
WITHOUT_K: dict[str, Build] = {
    "dense": vl.Dense,
    "relu": vl.ReLU,
    "jump": partial(vl.JumpReLU, threshold=0.3, bandwidth=0.3),
    "gated": vl.Gated,
}
POSTERIORS: dict[str, dict[str, Any]] = {
    "sae": {},
    "sigma 0": {"sigma": 0.0},
    "fixed": {"sigma": 0.3},
    "learned": {"sigma": "learned"},
    "closed form": {"sigma": "closed_form"},
    "encoder": {"sigma": 0.3, "covariance": "encoder"},
}
PRIORS: dict[str, Callable[[], vl.Prior]] = {
    "standard": vl.StandardNormal,
    "running": lambda: vl.ScaledNormal("running"),
    "laplace": vl.Laplace,
    "slab": vl.SpikeAndSlab,
    "correlated": lambda: vl.CorrelatedNormal(0.3),
}


def module_of(build: Build, posterior: str, prior: str | None, k: dict[str, int]) -> AutoencoderModule:
    sparsifier, options = build(**k), {**OPTIONS, **POSTERIORS[posterior], "sparsity_weight": 0.05 * (not k)}
    if posterior == "sae":
        return vl.SAE(D_IN, D_SAE, sparsifier, **options)
    if prior is None:
        return vl.VSAE(D_IN, D_SAE, sparsifier, kl_weight=0.0, gate_kl_weight=0.01 * bool(k), **options)
    made = PRIORS[prior]()
    kl_on: Any = "all" if prior in ("slab", "correlated") else "selected"
    return vl.VSAE(D_IN, D_SAE, sparsifier, prior=made, kl_weight=0.01, kl_on=kl_on, kl_warmup_steps=4, **options)


def products() -> list[Any]:
    """Every sparsifier with every posterior, with and without annealing; the priors take turns."""
    turns, found = cycle(PRIORS), []
    annealings = dict.fromkeys(WITH_K, (False, True)) | dict.fromkeys(WITHOUT_K, (False,))
    for (name, annealing), posterior in product(annealings.items(), POSTERIORS):
        for annealed in annealing:
            prior = None if posterior in ("sae", "encoder") else next(turns)
            for _ in PRIORS:  # the next one that this combination allows
                if prior is None or is_allowed(name, posterior, prior, annealed):
                    break
                prior = next(turns)
            if is_allowed(name, posterior, prior, annealed):
                label = f"{name}-{posterior}-{prior}" + "-annealed" * annealed
                found.append(pytest.param(name, posterior, prior, annealed, id=label))
    return found


def make(name: str, posterior: str, prior: str | None, annealed: bool) -> AutoencoderModule:
    if name in WITHOUT_K:
        return module_of(WITHOUT_K[name], posterior, prior, {})
    return module_of(WITH_K[name], posterior, prior, {"k": K, **(ANNEALED if annealed else {})})


def is_allowed(name: str, posterior: str, prior: str | None, annealed: bool) -> bool:
    try:
        make(name, posterior, prior, annealed)
    except vl.InputError:
        return False
    return True


@pytest.fixture(scope="module")
def fresh() -> torch.Tensor:
    return rows(8192, seed=7)


@pytest.mark.parametrize(("name", "posterior", "prior", "annealed"), products())
def test_a_product_is_calibrated_loads_and_resumes(
    name: str,
    posterior: str,
    prior: str | None,
    annealed: bool,
    fresh: torch.Tensor,
    tmp_path: Path,
    quiet_trainer: Callable[[int], Trainer],
) -> None:
    build = partial(make, name, posterior, prior, annealed)
    whole = quiet_trainer(STEPS)
    module = trained(build, whole)
    whole.save_checkpoint(tmp_path / "whole.ckpt")
    state = module.state_dict()
    assert all(bool(value.isfinite().all()) for value in state.values())

    loaded = vl.load(tmp_path / "whole.ckpt")
    torch.testing.assert_close(loaded(fresh), module.eval().reconstruction(fresh), rtol=1e-4, atol=1e-4)
    if name in WITH_K:
        active = (loaded.encode(fresh) != 0).sum(-1).float().mean().item()
        assert active == pytest.approx(K, rel=0.03)

    begun = quiet_trainer(STOP)
    trained(build, begun)
    begun.save_checkpoint(tmp_path / "begun.ckpt")
    resumed = trained(build, quiet_trainer(STEPS), checkpoint=tmp_path / "begun.ckpt").state_dict()
    assert [key for key, value in state.items() if not torch.equal(value, resumed[key])] == []


def test_the_products_are_many_and_hold_every_prior() -> None:
    values = [parameters.values for parameters in products()]
    assert len(values) >= 60
    assert {prior for _, _, prior, _ in values} == {None, *PRIORS}

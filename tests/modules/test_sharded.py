"""What is not equal when sharded is refused by name."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn

import vsae_lightning as vl
from vsae_lightning.modules.base import AutoencoderModule
from vsae_lightning.modules.sharded import require_shardable


def on_two_ranks(module: Any, **trainer: Any) -> AutoencoderModule:
    """The module, attached to what it is asked of a trainer; a real one of two ranks would start them."""
    given = {"strategy": vl.ShardedStrategy(), "state": SimpleNamespace(fn=TrainerFn.FITTING), **trainer}
    module._trainer = SimpleNamespace(world_size=2, **given)
    return module


@pytest.mark.parametrize(
    ("module", "trainer", "message"),
    [
        (lambda: vl.SAE(4, 8, vl.BatchTopK(2)), {}, "BatchTopK compares latents"),
        (lambda: vl.SAE(4, 8, vl.ProbabilisticTopK(2, 0.1)), {}, "ProbabilisticTopK compares latents"),
        (lambda: vl.SAE(4, 8, vl.Matryoshka(vl.TopK(2), [4])), {}, "Matryoshka compares latents"),
        (lambda: vl.SAE(4, 9, vl.TopK(2)), {}, "d_sae is 9; sharded, it must be a multiple of the 2 ranks"),
        (lambda: vl.SAE(4, 8, vl.TopK(2), resample_every_steps=5), {}, "resample_every_steps is 5"),
        (
            lambda: vl.VSAE(4, 8, vl.ReLU(), prior=vl.CorrelatedNormal(0.1), kl_on="all"),
            {},
            "CorrelatedNormal has a KL",
        ),
        (lambda: vl.VSAE(4, 8, vl.TopK(2), prior=vl.ScaledNormal("learned")), {}, "prior.log_scale: learned"),
        (lambda: vl.SAE(4, 8, vl.TopK(2), torch_compile=True), {}, "torch_compile is true"),
        (lambda: vl.SAE(4, 8, vl.TopK(2)), {"strategy": ModelParallelStrategy()}, "use ShardedStrategy"),
        (lambda: vl.SAE(4, 8, vl.TopK(2)), {"state": SimpleNamespace(fn=TrainerFn.PREDICTING)}, "predict writes"),
    ],
)
def test_refused_by_name(module: Callable[[], AutoencoderModule], trainer: dict[str, Any], message: str) -> None:
    built = on_two_ranks(module(), **trainer)
    with pytest.raises(vl.InputError, match=message):
        require_shardable(built, built.autoencoder)


def test_an_ensemble_is_refused() -> None:
    ensemble: Any = vl.Ensemble(4, {"a": lambda d_in: vl.SAE(d_in, 8, vl.TopK(2))})
    ensemble.configure_model()  # without sharding nothing happens
    ensemble._device_mesh = SimpleNamespace()  # a real one needs a process group
    with pytest.raises(vl.InputError, match="Ensemble"):
        ensemble.configure_model()


def test_a_known_dictionary_is_warned_of() -> None:
    data = vl.SyntheticDataModule(4, 4, 1.0)
    module = on_two_ranks(vl.SAE(4, 8, vl.TopK(2)), datamodule=data)
    with pytest.warns(UserWarning, match="known dictionary is not measured"):
        require_shardable(module, module.autoencoder)

"""A step that is not finite is named, counted and skipped; too many of them end the run."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from torch import Tensor, nn

import vsae_lightning as vl
from vsae_lightning.autoencoders.latents import SparseLatents
from vsae_lightning.autoencoders.storage import read_checkpoint
from vsae_lightning.batches import ActivationBatch
from vsae_lightning.cli import main
from vsae_lightning.modules.finite_steps import FiniteSteps
from vsae_lightning.modules.forward import ForwardPass

D_IN, D_SAE, ROWS = 6, 24, 8
BAD = 3


def forward_pass(x: Tensor, x_hat: Tensor) -> ForwardPass:
    latents = SparseLatents(torch.ones(len(x), 1), torch.zeros(len(x), 1, dtype=torch.long), 2)
    return ForwardPass(x, x, latents, x_hat)


def batch_of(x: Tensor, step: int = 5) -> ActivationBatch:
    return ActivationBatch(x, step, (0,), 0)


class Origins:
    """A loader that knows where rows are from."""

    def origin(self, step: int) -> tuple[list[int], Tensor]:
        return [7, 8], torch.tensor([40, 41, 42])


@pytest.mark.parametrize("gradient", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_taken_away(gradient: float) -> None:
    weights = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(1))]
    weights[0].grad, weights[1].grad = torch.ones(2), torch.tensor([0.0, gradient, 0.0])
    steps, x = FiniteSteps(), torch.ones(3, 2)
    steps.watch(torch.tensor(1.0), batch_of(x), forward_pass(x, x + torch.tensor([[0.0], [9.0], [1.0]])))
    with pytest.warns(
        UserWarning, match=r"step 4: .* not finite; skipped \(1 so far\)\. Batch 5, block 7, 8: .* of seq"
    ):
        assert steps.admit(weights, 4, Origins()) is None
    assert all(weight.grad is None for weight in weights)
    assert steps.skipped == 1


def test_a_finite_gradient_passes_with_its_norm() -> None:
    weights = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))]
    weights[0].grad, weights[1].grad = torch.tensor([2.0, 3.0]), torch.tensor([6.0])
    norm = FiniteSteps().admit(weights, 0, None)
    assert norm is not None
    assert norm.item() == 7.0
    assert torch.equal(weights[0].grad, torch.tensor([2.0, 3.0]))


def test_a_loss_that_is_not_finite_counts_whatever_the_gradient() -> None:
    """Of any batch of the step; the rows that are named are those that are not finite."""
    weight, steps, x = nn.Parameter(torch.ones(1)), FiniteSteps(), torch.ones(3, 2)
    for loss in (1.0, math.inf, 2.0):
        steps.watch(torch.tensor(loss), batch_of(x), forward_pass(x, x + torch.tensor([[0.0], [math.nan], [1.0]])))
    weight.grad = torch.ones(1)
    with pytest.warns(UserWarning, match=r"1 rows are not reconstructed finitely, of sequences \[41\]"):
        assert steps.admit([weight], 0, Origins()) is None
    weight.grad = torch.ones(1)
    assert steps.admit([weight], 1, Origins()) is not None  # the next step begins anew


class Stream:
    """Ten batches, of which the fourth has a row that is not finite."""

    def __iter__(self) -> Iterator[ActivationBatch]:
        chance = torch.Generator().manual_seed(0)
        for step in range(10):
            x = torch.randn(ROWS, D_IN, generator=chance)
            if step == BAD:
                x[2] = math.nan
            yield ActivationBatch(x, step, (0,), step * ROWS)


class Watched(vl.SAE):
    """Keeps its state after every step."""

    def __init__(self) -> None:
        adam: Callable[[Any], torch.optim.Optimizer] = lambda parameters: torch.optim.Adam(parameters, lr=0.01)  # noqa: E731
        super().__init__(D_IN, D_SAE, vl.TopK(3), dead_after_tokens=16, optimizer=adam)
        self.states: list[dict[str, Tensor]] = []
        self.steps_of_adam: list[int] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.states.append({name: value.clone() for name, value in self.state_dict().items()})
        self.steps_of_adam.append(int(self.trainer.optimizers[0].state[self.autoencoder.W_enc]["step"]))


def test_a_bad_batch_moves_nothing_and_training_goes_on(quiet_trainer: Callable[[int], Trainer]) -> None:
    module = Watched()
    with pytest.warns(UserWarning, match=rf"step {BAD}: .*Batch {BAD}: 1 rows are not reconstructed finitely\."):
        quiet_trainer(10).fit(module, Stream())
    before, after, later = module.states[BAD - 1], module.states[BAD], module.states[-1]
    for name, value in after.items():
        if "usage" not in name and "threshold" not in name:  # tokens go by, and seven rows are good
            assert torch.equal(value, before[name]), name
    assert module.steps_of_adam == [1, 2, 3, 3, 4, 5, 6, 7, 8, 9]
    assert module.finite_steps.skipped == 1
    assert not torch.equal(later["autoencoder.W_enc"], after["autoencoder.W_enc"])
    assert all(value.isfinite().all() for value in later.values())
    fired = after["usage.tokens_since_fired"] == 0
    assert fired.any()  # by the seven good rows
    assert torch.equal(after["usage.tokens_since_fired"][~fired], (before["usage.tokens_since_fired"] + ROWS)[~fired])


def test_too_many_skipped_steps_end_the_run_with_a_checkpoint(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loss of a KL of weight 3e38 is infinite, at every step."""
    monkeypatch.chdir(tmp_path)
    infinite = ["--model.kl_weight", "3e38", "--model.kl_warmup_steps", "0", "--ckpt_path", "last"]
    for skipped in (3, 4):  # the count is that of the whole run
        limit = ["--skipped_steps.max_skipped_steps", str(skipped - 1)]
        with pytest.warns(UserWarning, match="block 0: .* of sequences"), pytest.raises(SystemExit) as exit_:
            main(["fit", "--config", str(config), *infinite, *limit])
        assert exit_.value.code == 1
        assert f"{skipped} steps were skipped" in (said := capsys.readouterr().err)
        assert f"stopped at step {skipped}: saved; go on with the same command and --ckpt_path last" in said
        (run,) = (tmp_path / "lightning_logs").iterdir()
        saved = read_checkpoint(run / "checkpoints" / "last.ckpt")
        assert saved["global_step"] == saved["skipped_steps"] == skipped
        assert all(value.isfinite().all() for value in saved["state_dict"].values())


def test_a_member_that_is_not_finite_leaves_the_others_alone(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sparsifier = {"class_path": "TopK", "init_args": {"k": 6}}
    good: dict[str, Any] = {"class_path": "SAE", "init_args": {"d_sae": 96, "sparsifier": sparsifier}}
    infinite = {"sigma": 0.1, "kl_weight": 3e38, "kl_warmup_steps": 0}
    bad = {"class_path": "VSAE", "init_args": {"d_sae": 96, "sparsifier": sparsifier, **infinite}}
    content = yaml.safe_load(config.read_text())
    monkeypatch.chdir(tmp_path)
    saved = []
    for members in ({"good": good, "bad": bad}, {"good": good}):
        content["model"] = {"class_path": "Ensemble", "init_args": {"members": members}}
        Path("run.yaml").write_text(yaml.safe_dump(content))
        main(["fit", "--config", "run.yaml", "--trainer.limit_val_batches", "0"])
        run = max(Path("lightning_logs").iterdir())
        saved.append(read_checkpoint(run / "checkpoints" / "last.ckpt"))
    assert saved[0]["members"]["bad"]["skipped_steps"] == 12
    assert saved[0]["members"]["good"]["skipped_steps"] == 0
    for name, value in saved[1]["state_dict"].items():
        assert torch.equal(value, saved[0]["state_dict"][name]), name

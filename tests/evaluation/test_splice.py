"""A language model of two words, and the tiny one; what is spliced in is known."""

from math import log
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vsae_lightning.data.language_model import LanguageModel
from vsae_lightning.evaluation.splice import Edit, Positions, Splice
from vsae_lightning.metrics import cross_entropies

HOOK = "blocks.1.hook_resid_post"
TOKENS = torch.tensor([[0, 1, 1, 0]])


class TwoWords:
    """Logits of word 1 are the activations, those of word 0 are 0: a sequence of known predictions."""

    def __init__(self, activations: list[float]) -> None:
        self.activations = torch.tensor(activations)[None, :, None]

    def logits(self, tokens: Tensor, edit: Edit | None = None) -> Tensor:
        activations = self.activations if edit is None else edit(self.activations)
        return torch.cat([torch.zeros_like(activations), activations], -1)


def test_losses_by_hand() -> None:
    """Odds of word 1 to 0: clean 9, 3, 3, 1; zero 1; mean 3 / 1; spliced twice the clean ones' logarithm."""
    model = TwoWords([log(9), log(3), log(3), 0.0])
    splice = Splice(model, ["double"], torch.device("cpu"))
    splice.update(TOKENS, Positions.trained(TOKENS, 1), torch.tensor([log(2)]), {"double": lambda x: 2 * x})
    values = splice.compute()["double"]
    # positions 1 and 2 predict words 1 and 0; position 3 predicts nothing, but has a KL; position 0 is left out
    assert values["ce_loss_clean"].item() == pytest.approx((log(4 / 3) + log(4)) / 2)
    assert values["ce_loss_zero_ablated"].item() == pytest.approx(log(2))
    assert values["ce_loss_mean_ablated"].item() == pytest.approx((log(3 / 2) + log(3)) / 2)
    assert values["ce_loss_spliced"].item() == pytest.approx((log(10 / 9) + log(10)) / 2)
    kl = 0.75 * log(0.75 / 0.9) + 0.25 * log(0.25 / 0.1)
    assert values["kl_spliced"].item() == pytest.approx(2 * kl / 3, rel=1e-5)
    ablated = 0.75 * log(0.75 / 0.5) + 0.25 * log(0.25 / 0.5)
    assert values["kl_zero_ablated"].item() == pytest.approx(2 * ablated / 3, rel=1e-5)
    assert values["kl_score"].item() == pytest.approx(1 - kl / ablated, rel=1e-5)


def test_masks_say_what_is_replaced_and_what_counts() -> None:
    model = TwoWords([log(3)] * 4)
    reconstructed, ablated, counted = (
        torch.tensor([mask]) for mask in ([False, True, False, False], [True] * 4, [True, True, False, True])
    )
    splice = Splice(model, ["zero"], torch.device("cpu"))
    splice.update(TOKENS, Positions(reconstructed, ablated, counted), torch.zeros(1), {"zero": torch.zeros_like})
    values = splice.compute()["zero"]
    assert values["ce_loss_clean"].item() == pytest.approx(log(4 / 3))  # of word 1, at positions 0 and 1
    assert values["ce_loss_spliced"].item() == pytest.approx((log(4 / 3) + log(2)) / 2)
    assert values["ce_loss_zero_ablated"].item() == pytest.approx(log(2))


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LanguageModel:
    model = LanguageModel(str(tiny_model), HOOK)
    model.load("cpu")
    return model


def spliced(model: LanguageModel, drop: int, batches: int) -> dict[str, dict[str, float]]:
    tokens = torch.randint(0, 200, (6, 16), generator=torch.Generator().manual_seed(0))
    mean = model.activations(tokens)[:, drop:].float().mean((0, 1))
    members = {"identity": lambda x: x, "zero": torch.zeros_like, "mean": mean.expand_as}
    splice = Splice(model, members, torch.device("cpu"))
    for part in tokens.chunk(batches):
        splice.update(part, Positions.trained(part, drop), mean, members)
    return {name: {key: x.item() for key, x in values.items()} for name, values in splice.compute().items()}


@pytest.mark.parametrize("drop", [0, 1, 3])
def test_identity_recovers_all_and_zeros_nothing(model: LanguageModel, drop: int) -> None:
    values = spliced(model, drop, 1)
    assert values["identity"]["ce_loss_score"] == values["identity"]["kl_score"] == 1
    assert values["identity"]["kl_spliced"] == 0
    assert values["zero"]["ce_loss_score"] == values["zero"]["kl_score"] == 0
    assert values["zero"]["kl_spliced"] > 0
    assert values["mean"]["ce_loss_score_mean_ablation"] == 0
    assert values["mean"]["kl_spliced"] == values["mean"]["kl_mean_ablated"]


def test_batches_add_up(model: LanguageModel) -> None:
    for one, three in zip(spliced(model, 1, 1).values(), spliced(model, 1, 3).values(), strict=True):
        assert three == pytest.approx(one, rel=1e-5, abs=1e-6)


def test_zero_ablation_is_the_loss_without_the_layers_so_far(model: LanguageModel) -> None:
    """Without the splice: TransformerLens' own loss, with its own hook."""
    tokens = torch.randint(0, 200, (2, 16), generator=torch.Generator().manual_seed(1))
    splice = Splice(model, [], torch.device("cpu"))
    splice.update(tokens, Positions.trained(tokens, 0), torch.zeros(32), {})
    hooks = [(HOOK, lambda activations, hook: torch.zeros_like(activations))]
    expected = model.bridge.run_with_hooks(tokens, return_type="loss", fwd_hooks=hooks)
    assert splice.zero.compute().cross_entropy.item() == pytest.approx(expected.item(), rel=1e-5)


def test_half_precision_logits_are_judged_in_float32() -> None:
    class Half(TwoWords):
        def logits(self, tokens: Tensor, edit: Edit | None = None) -> Tensor:
            return super().logits(tokens, edit).bfloat16()

    model = Half([8.0] * 4)  # exact in bfloat16; the loss of word 1 is 3e-4, which is lost where softmax is bfloat16
    splice = Splice(model, [], torch.device("cpu"))
    tokens = torch.ones(1, 4, dtype=torch.long)
    splice.update(tokens, Positions.trained(tokens, 0), torch.zeros(1), {})
    expected = cross_entropies(TwoWords([8.0] * 4).logits(tokens).log_softmax(-1), tokens).mean()
    assert splice.clean.compute().cross_entropy.item() == pytest.approx(expected.item(), rel=1e-6)


def test_clean_and_ablated_passes_are_made_once_for_all() -> None:
    passes = []

    class Counting(TwoWords):
        def logits(self, tokens: Tensor, edit: Edit | None = None) -> Tensor:
            passes.append(edit)
            return super().logits(tokens, edit)

    members = {"one": torch.zeros_like, "other": torch.ones_like, "third": torch.ones_like}
    splice = Splice(Counting([1.0] * 4), members, torch.device("cpu"))
    splice.update(TOKENS, Positions.trained(TOKENS, 1), torch.zeros(1), members)
    assert len(passes) == 3 + 3

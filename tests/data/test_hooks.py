"""The width of any hook is that of its activations, and hooks that other libraries name are answered."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tiny_models import CONFIGS, save_tiny, tiny_config
from vsae_lightning.data.bridges import empty_bridge
from vsae_lightning.data.hooks import _measured_width, _plain_widths
from vsae_lightning.data.language_model import LanguageModel
from vsae_lightning.errors import InputError

TOKENS = torch.randint(0, 300, (3, 16), generator=torch.Generator().manual_seed(0))
EVERYWHERE = [
    *("hook_resid_pre", "hook_resid_post", "hook_attn_out", "hook_mlp_out", "mlp.hook_pre", "mlp.hook_post"),
    *("attn.hook_z", "attn.hook_q", "ln1.hook_normalized", "ln2.hook_normalized"),
]
FAMILIES = ("llama", "gpt2", "gpt_neox", "mixtral", "opt", "phi", "falcon")
PLAIN = sorted(family for family in CONFIGS if _plain_widths(tiny_config(family)))


def refusal(folder: Path, hook_name: str) -> str:
    with pytest.raises(InputError) as caught:
        LanguageModel(str(folder), hook_name)
    return str(caught.value)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Path]:
    made = {}
    for family in FAMILIES:
        made[family] = tmp_path_factory.mktemp(family)
        save_tiny(family, made[family], tiny_model)
    return made


# --------------------------------------------------------------------- width


@pytest.mark.parametrize("family", PLAIN)
def test_a_config_tells_the_widths_that_its_model_has(family: str) -> None:
    config = tiny_config(family)
    bridge = empty_bridge(config)
    widths = {name: width for name, width in _plain_widths(config).items() if name.startswith("blocks.1.")}
    assert len(widths) >= 6
    assert {name: _measured_width(name, family, bridge) for name in widths} == widths


@pytest.mark.parametrize("hook", EVERYWHERE)
@pytest.mark.parametrize("family", FAMILIES)
def test_activations_have_the_width_that_is_told(folders: dict[str, Path], family: str, hook: str) -> None:
    model = _found(folders[family], f"blocks.1.{hook}")
    if model is None:
        return
    model.load("cpu")
    assert model.activations(TOKENS).shape == (3, 16, model.d_in)


def _found(folder: Path, hook_name: str) -> LanguageModel | None:
    """None where the model does not have the hook, which must be said by name."""
    try:
        return LanguageModel(str(folder), hook_name)
    except InputError as error:
        assert hook_name in str(error)  # noqa: PT017, both are right
        return None


@pytest.mark.parametrize(
    ("family", "hook", "d_in"),
    [
        ("mixtral", "hook_resid_post", 32),
        ("opt", "mlp.hook_post", 80),
        ("falcon", "mlp.hook_post", 72),
        ("gpt2", "attn.hook_z", 24),
        ("gpt_neox", "attn.hook_z", 32),
        ("llama", "attn.hook_z", 32),
        ("llama", "attn.hook_k", 16),
        ("llama", "ln2.hook_normalized", 32),
        ("opt", "ln2.hook_normalized", 32),  # which TransformerLens has without the axis of sequences
    ],
)
def test_the_width_of_a_hook_is_asked_of_the_model(folders: dict[str, Path], family: str, hook: str, d_in: int) -> None:
    assert LanguageModel(str(folders[family]), f"blocks.1.{hook}").d_in == d_in


def test_common_hooks_of_plain_models_need_no_bridge(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsae_lightning.data.hooks.empty_bridge", lambda _: pytest.fail("a bridge was made"))
    for hook in ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_mlp_out", "mlp.hook_post"):
        assert LanguageModel(str(folders["llama"]), f"blocks.2.{hook}").d_in in (32, 80)


def test_a_model_that_cannot_run_without_values_is_asked_with_its_weights(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def needs_values(_: object) -> None:
        raise NotImplementedError("no values")

    monkeypatch.setattr("vsae_lightning.data.hooks.empty_bridge", needs_values)
    model = LanguageModel(str(folders["opt"]), "blocks.1.mlp.hook_post")
    assert model.d_in == 80
    assert model.bridge is None


# --------------------------------------------------------------------- heads


def test_heads_lie_side_by_side(folders: dict[str, Path]) -> None:
    model = LanguageModel(str(folders["llama"]), "blocks.1.attn.hook_z")
    model.load("cpu")
    seen: list[Tensor] = []
    projection = model.bridge.original_model.model.layers[1].self_attn.o_proj
    handle = projection.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    activations = model.activations(TOKENS)
    model.logits(TOKENS)
    handle.remove()
    torch.testing.assert_close(activations, seen[-1].reshape(3, 16, 32))


@pytest.mark.parametrize("hook", ["attn.hook_z", "ln1.hook_normalized", "ln2.hook_normalized", "mlp.hook_post"])
def test_what_is_put_at_a_hook_changes_the_logits(folders: dict[str, Path], hook: str) -> None:
    model = LanguageModel(str(folders["llama"]), f"blocks.1.{hook}")
    model.load("cpu")
    plain = model.logits(TOKENS)
    torch.testing.assert_close(model.logits(TOKENS, lambda x: x), plain)
    assert (model.logits(TOKENS, torch.zeros_like) - plain).abs().max() > 1e-3


def test_heads_reach_the_logits_through_their_output_weights(folders: dict[str, Path]) -> None:
    model = LanguageModel(str(folders["llama"]), "blocks.1.attn.hook_z")
    model.load("cpu")
    behind = LanguageModel(str(folders["llama"]), "blocks.1.hook_attn_out")
    behind.load("cpu")
    weights = behind.bridge.original_model.model.layers[1].self_attn.o_proj.weight
    directions = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    assert model.writes_linearly
    torch.testing.assert_close(
        model.direct_logits(directions), behind.direct_logits(directions @ weights.T), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("hook", ["mlp.hook_pre", "ln1.hook_normalized", "attn.hook_q"])
def test_hooks_before_a_nonlinearity_have_no_direct_path(folders: dict[str, Path], hook: str) -> None:
    model = LanguageModel(str(folders["llama"]), f"blocks.1.{hook}")
    model.load("cpu")
    assert not model.writes_linearly


# ------------------------------------------------------------------- refusal


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        ("attn.hook_pattern", "belongs to no single token"),
        ("attn.hook_attn_scores", "belongs to no single token"),
        ("ln1.hook_scale", "there is one number for each token"),
        ("hook_mlp_in", "is switched off in TransformerLens"),
        ("attn.hook_hidden_states", "computes nothing at its hook"),
    ],
)
def test_a_hook_without_activations_is_refused_by_name(folders: dict[str, Path], hook: str, reason: str) -> None:
    message = refusal(folders["llama"], f"blocks.1.{hook}")
    assert reason in message
    assert f"'blocks.1.{hook}'" in message


def test_tokens_are_no_activations(folders: dict[str, Path]) -> None:
    assert "there are no activations at 'embed.hook_in'" in refusal(folders["llama"], "embed.hook_in")


@pytest.mark.parametrize("name", ["model.layers.1", "transformer.h.1", "gpt_neox.layers.1", "blocks.1", "1", "h.1"])
def test_a_layer_is_answered_with_its_hook(folders: dict[str, Path], name: str) -> None:
    message = refusal(folders["llama"], name)
    assert message.endswith("give blocks.1.hook_resid_post, which is index 2 of hidden_states.")


def test_the_last_layer_is_in_no_hidden_states(folders: dict[str, Path]) -> None:
    expected = "give blocks.2.hook_resid_post, which hidden_states has only after the final norm."
    assert refusal(folders["llama"], "model.layers.2").endswith(expected)
    assert refusal(folders["llama"], "-1").endswith(expected)


@pytest.mark.parametrize(
    ("name", "hook"),
    [("model.layers.1.mlp", "hook_mlp_out"), ("model.layers.1.self_attn", "hook_attn_out")],
)
def test_a_part_of_a_layer_is_answered_with_its_hook(folders: dict[str, Path], name: str, hook: str) -> None:
    assert refusal(folders["llama"], name).endswith(f"give blocks.1.{hook}.")


@pytest.mark.parametrize("name", ["model.layers.3", "blocks.3.hook_resid_post", "3", "-4"])
def test_a_layer_that_is_not_there_names_those_that_are(folders: dict[str, Path], name: str) -> None:
    message = refusal(folders["llama"], name)
    assert "(layers 0 to 2) has no hook" in message
    assert f"there is no layer {3 if '3' in name else -4}" in message

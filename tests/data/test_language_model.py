import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from vsae_lightning.data.language_model import LanguageModel
from vsae_lightning.errors import InputError

LAYERS = range(3)
TOKENS = torch.randint(0, 300, (3, 24), generator=torch.Generator().manual_seed(0))
HOOKS = ["hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post", "mlp.hook_pre", "mlp.hook_post"]


SMALL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


def save_with_tokenizer(model: Any, folder: Path, tokenizer_folder: Path) -> None:
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_folder / name, folder)


@pytest.fixture(scope="module")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A Llama, whose blocks are sequential and whose MLP is gated: as SmolLM2."""
    folder = tmp_path_factory.mktemp("tiny_llama")
    sizes = SMALL | {"num_hidden_layers": 3, "intermediate_size": 96, "num_key_value_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = LlamaForCausalLM(LlamaConfig(**sizes, initializer_range=0.3))
    save_with_tokenizer(model, folder, tiny_model)
    return folder


@contextmanager
def recording(modules: dict[str, tuple[nn.Module, str]]) -> Iterator[dict[str, Tensor]]:
    """Inputs ("in") or outputs ("out") of modules of a plain Hugging Face model."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, side: str, module: nn.Module, inputs: Any, output: Any) -> None:
        value = inputs if side == "in" else output
        seen[name] = value[0] if isinstance(value, tuple) else value

    handles = [module.register_forward_hook(partial(keep, name, side)) for name, (module, side) in modules.items()]
    yield seen
    for handle in handles:
        handle.remove()


def neox_activations(folder: Path) -> dict[str, Tensor]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    places: dict[str, tuple[nn.Module, str]] = {}
    for number, layer in enumerate(model.gpt_neox.layers):
        places |= {
            f"blocks.{number}.hook_resid_pre": (layer, "in"),
            f"blocks.{number}.hook_attn_out": (layer.attention, "out"),
            f"blocks.{number}.hook_mlp_out": (layer.mlp, "out"),
            f"blocks.{number}.hook_resid_post": (layer, "out"),
            f"blocks.{number}.mlp.hook_pre": (layer.mlp.dense_h_to_4h, "out"),
            f"blocks.{number}.mlp.hook_post": (layer.mlp.dense_4h_to_h, "in"),
        }
    with recording(places) as seen, torch.no_grad():
        hidden_states = model(TOKENS, output_hidden_states=True).hidden_states
    for number in LAYERS:
        assert torch.equal(seen[f"blocks.{number}.hook_resid_pre"], hidden_states[number])
    return seen


def llama_activations(folder: Path) -> dict[str, Tensor]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    places: dict[str, tuple[nn.Module, str]] = {}
    for number, layer in enumerate(model.model.layers):
        places |= {
            f"blocks.{number}.hook_resid_pre": (layer, "in"),
            f"blocks.{number}.hook_attn_out": (layer.self_attn, "out"),
            f"blocks.{number}.hook_resid_mid": (layer.post_attention_layernorm, "in"),
            f"blocks.{number}.hook_mlp_out": (layer.mlp, "out"),
            f"blocks.{number}.hook_resid_post": (layer, "out"),
            f"blocks.{number}.mlp.hook_pre": (layer.mlp.gate_proj, "out"),
            f"blocks.{number}.mlp.hook_post": (layer.mlp.down_proj, "in"),
        }
    with recording(places) as seen, torch.no_grad():
        model(TOKENS)
    return seen


@pytest.fixture(scope="module")
def expected(tiny_model: Path, tiny_llama: Path) -> dict[str, dict[str, Tensor]]:
    return {"neox": neox_activations(tiny_model), "llama": llama_activations(tiny_llama)}


def loaded(folder: Path | str, hook_name: str, **options: Any) -> LanguageModel:
    model = LanguageModel(str(folder), hook_name, **options)
    model.load("cpu")
    return model


def error_of(model_name: Path | str, hook_name: str = "blocks.0.hook_resid_post") -> str:
    with pytest.raises(InputError) as caught:
        LanguageModel(str(model_name), hook_name)
    return str(caught.value)


# --------------------------------------------------------------- activations


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("layer", LAYERS)
def test_activations_are_those_of_the_plain_model(
    tiny_model: Path, expected: dict[str, dict[str, Tensor]], layer: int, hook: str
) -> None:
    name = f"blocks.{layer}.{hook}"
    model = loaded(tiny_model, name)
    activations = model.activations(TOKENS)
    reference = expected["neox"][name]
    assert activations.shape == (3, 24, model.d_in)
    torch.testing.assert_close(activations, reference, rtol=1e-4, atol=1e-4 * float(reference.abs().max()))
    others = [value for key, value in expected["neox"].items() if value.shape == reference.shape and key != name]
    # Not a neighbouring hook: only the output of one block, which is the input of the next, comes so close.
    close = [other for other in others if torch.allclose(other, activations, rtol=1e-4, atol=1e-4)]
    assert all(torch.equal(other, reference) for other in close)


@pytest.mark.parametrize("hook", [*HOOKS, "hook_resid_mid"])
@pytest.mark.parametrize("layer", [0, 2])
def test_activations_of_a_gated_sequential_model_are_those_of_the_plain_model(
    tiny_llama: Path, expected: dict[str, dict[str, Tensor]], layer: int, hook: str
) -> None:
    name = f"blocks.{layer}.{hook}"
    activations = loaded(tiny_llama, name).activations(TOKENS)
    reference = expected["llama"][name]
    torch.testing.assert_close(activations, reference, rtol=1e-4, atol=1e-4 * float(reference.abs().max()))


def test_the_last_blocks_output_is_not_normalised(tiny_model: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    activations = loaded(tiny_model, "blocks.2.hook_resid_post").activations(TOKENS)
    with torch.no_grad():
        last = plain(TOKENS, output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(plain.gpt_neox.final_layer_norm(activations), last, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(activations, last, atol=0.1)


@pytest.mark.parametrize(
    ("hook", "norms", "gelus"),
    [
        # GPT-NeoX: each block has two LayerNorms, one before the attention and one before the MLP, and a GELU.
        ("blocks.0.hook_resid_pre", 0, 0),
        ("blocks.0.hook_attn_out", 1, 0),
        ("blocks.1.hook_resid_pre", 2, 1),
        ("blocks.1.hook_attn_out", 3, 1),
        ("blocks.1.mlp.hook_pre", 4, 1),
        ("blocks.1.mlp.hook_post", 4, 2),
        ("blocks.1.hook_mlp_out", 4, 2),
        ("blocks.1.hook_resid_post", 4, 2),
        ("blocks.2.hook_resid_post", 6, 3),
    ],
)
def test_nothing_behind_the_hook_is_computed(tiny_model: Path, hook: str, norms: int, gelus: int) -> None:
    model = loaded(tiny_model, hook)
    calls: Counter[str] = Counter()
    handle = register_module_forward_pre_hook(lambda module, _: calls.update([type(module).__name__]))
    try:
        model.activations(TOKENS)
    finally:
        handle.remove()
    assert calls["Embedding"] == 1
    assert calls["LayerNorm"] == norms
    assert calls["GELUActivation"] == gelus


def test_activations_need_no_gradient_and_the_model_is_frozen(tiny_model: Path) -> None:
    model = loaded(tiny_model, "blocks.1.hook_resid_post")
    with torch.enable_grad():
        activations = model.activations(TOKENS)
    assert not activations.requires_grad
    # Not of inference mode either, which an autoencoder could not be trained on.
    assert not activations.is_inference()
    assert all(not parameter.requires_grad for parameter in model.bridge.parameters())
    assert not model.bridge.original_model.training


def test_activations_do_not_depend_on_what_was_run_before(tiny_model: Path) -> None:
    model = loaded(tiny_model, "blocks.1.hook_resid_post")
    first = model.activations(TOKENS)
    kept = first.clone()
    model.activations(TOKENS.flip(0))
    assert torch.equal(model.activations(TOKENS), kept)
    assert torch.equal(first, kept)


def test_a_token_sees_only_those_before_it(tiny_model: Path) -> None:
    model = loaded(tiny_model, "blocks.2.hook_resid_post")
    changed = TOKENS.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 300
    one, other = model.activations(TOKENS), model.activations(changed)
    torch.testing.assert_close(one[:, :10], other[:, :10], rtol=1e-4, atol=1e-4)
    assert (one[:, 10:] - other[:, 10:]).abs().amax(-1).min() > 0.01


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_and_activations_have_the_dtype_asked_for(
    tiny_model: Path, expected: dict[str, dict[str, Tensor]], dtype: Any
) -> None:
    model = loaded(tiny_model, "blocks.1.hook_resid_post", dtype=dtype)
    activations = model.activations(TOKENS)
    assert activations.dtype == model.dtype == getattr(torch, dtype)
    reference = expected["neox"]["blocks.1.hook_resid_post"]
    error = (activations.float() - reference).norm() / reference.norm()
    assert 0 < float(error) < 0.03


def test_a_model_without_fused_attention_is_read_all_the_same(tiny_model: Path, tmp_path: Path) -> None:
    plain = Gemma2ForCausalLM(Gemma2Config(**SMALL, num_key_value_heads=2, head_dim=8, pad_token_id=0)).eval()
    save_with_tokenizer(plain, tmp_path, tiny_model)
    with recording({"post": (plain.model.layers[1], "out")}) as seen, torch.no_grad():
        plain(TOKENS)
    activations = loaded(tmp_path, "blocks.1.hook_resid_post").activations(TOKENS)
    torch.testing.assert_close(activations, seen["post"], rtol=1e-4, atol=1e-4)


def test_a_hook_that_only_the_model_shows_to_be_missing_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    # Phi's blocks are parallel, though its config does not say so.
    save_with_tokenizer(PhiForCausalLM(PhiConfig(**SMALL)), tmp_path, tiny_model)
    assert "has no hook 'blocks.1.hook_resid_mid'" in error_of(tmp_path, "blocks.1.hook_resid_mid")


# --------------------------------------------------------------------- width


@pytest.mark.parametrize(
    ("hook", "d_in"),
    [
        ("hook_resid_pre", 32),
        ("hook_resid_post", 32),
        ("hook_attn_out", 32),
        ("hook_mlp_out", 32),
        ("mlp.hook_pre", 96),
        ("mlp.hook_post", 96),
    ],
)
def test_the_width_needs_no_weights(tiny_model: Path, tmp_path: Path, hook: str, d_in: int) -> None:
    shutil.copy(tiny_model / "config.json", tmp_path)
    assert LanguageModel(str(tmp_path), f"blocks.2.{hook}").d_in == d_in


def test_the_width_of_an_mlp_that_no_config_states_is_four_times_the_models(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "n_embd": 24, "n_layer": 2, "n_head": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert LanguageModel(str(tmp_path), "blocks.1.mlp.hook_post").d_in == 96
    assert LanguageModel(str(tmp_path), "blocks.1.hook_resid_mid").d_in == 24


@pytest.mark.parametrize(
    ("hook_name", "suggestion"),
    [
        ("blocks.3.hook_resid_post", "blocks.2.hook_resid_post"),
        ("blocks.1.hook_resid_pst", "blocks.1.hook_resid_post"),
        ("block.1.hook_mlp_out", "blocks.1.hook_mlp_out"),
        ("blocks.-1.hook_resid_post", "blocks.2.hook_resid_post"),
        ("blocks.1.hook_resid_mid", "blocks.1.hook_resid_pre"),
        ("blocks.1.mlp.hook_pst", "blocks.1.mlp.hook_post"),
    ],
)
def test_an_unknown_hook_names_near_ones(tiny_model: Path, hook_name: str, suggestion: str) -> None:
    message = error_of(tiny_model, hook_name)
    assert f"(layers 0 to 2) has no hook '{hook_name}'" in message
    assert suggestion in message.split("Did you mean")[1]


def test_a_hook_like_no_other_is_an_error_without_a_guess(tiny_model: Path) -> None:
    message = error_of(tiny_model, "zzz")
    assert "has no hook 'zzz'" in message
    assert "Did you mean" not in message


# --------------------------------------------------------------- which model


def test_a_folder_is_the_model_in_it_whatever_it_is_called(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The names are aliases of TransformerLens, which would ask the hub for models that it ships under them.
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    reference = loaded(tiny_model, "blocks.1.hook_resid_post").activations(TOKENS)
    for name in ("model", "pythia-70m", "neox"):
        shutil.copytree(tiny_model, tmp_path / name)
        assert torch.equal(loaded(name, "blocks.1.hook_resid_post").activations(TOKENS), reference)


def test_a_tilde_is_the_home_folder(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny_model.parent))
    assert LanguageModel(f"~/{tiny_model.name}", "blocks.1.hook_resid_post").d_in == 32


@pytest.mark.parametrize("layer", range(4))
def test_the_bundled_model_has_four_layers_of_width_256(layer: int) -> None:
    model = loaded("bundled", f"blocks.{layer}.hook_resid_post")
    assert model.d_in == 256
    activations = model.activations(torch.arange(20).reshape(2, 10))
    assert activations.shape == (2, 10, 256)
    assert activations.isfinite().all()
    assert activations.norm(dim=-1).min() > 0
    assert "(layers 0 to 3) has no hook 'blocks.4.hook_resid_post'" in error_of("bundled", "blocks.4.hook_resid_post")


def test_the_tokenizer_is_the_models_own(tiny_model: Path) -> None:
    tokenizer = LanguageModel(str(tiny_model), "blocks.0.hook_resid_post").tokenizer
    assert tokenizer.is_fast
    assert len(tokenizer) == 300
    assert tokenizer("the quick<|endoftext|>")["input_ids"][-1] == tokenizer.eos_token_id == 0
    assert tokenizer.decode(tokenizer("quick brown")["input_ids"]) == "quick brown"


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    assert "is a folder without config.json, so not a model" in error_of(tmp_path)


@pytest.mark.parametrize("name", ["/no/such/folder", "./no_such_folder", "~/no_such_folder"])
def test_a_folder_that_does_not_exist_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert error_of(name) == f"model_name: there is no folder {name!r}."


@pytest.mark.parametrize("content", ["{}", "not json", '{"model_type": "no_such_type"}'])
def test_a_config_that_cannot_be_used_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert f"model_name: '{tmp_path}' has no usable config" in error_of(tmp_path)


def test_a_model_without_a_tokenizer_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_model / "config.json", tmp_path)
    model = LanguageModel(str(tmp_path), "blocks.0.hook_resid_post")
    with pytest.raises(InputError, match=r"has no tokenizer\.json; save its fast tokenizer there"):
        _ = model.tokenizer


def test_weights_that_are_missing_are_an_error(tiny_model: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model / name, tmp_path)
    with pytest.raises(InputError, match=r"cannot be loaded: .*model\.safetensors"):
        loaded(tmp_path, "blocks.0.hook_resid_post")


@pytest.mark.parametrize("kept", [4, 100, 10_000])
def test_weights_that_are_cut_short_are_an_error(tiny_model: Path, tmp_path: Path, kept: int) -> None:
    shutil.copytree(tiny_model, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(InputError, match="cannot be loaded"):
        loaded(tmp_path, "blocks.0.hook_resid_post")

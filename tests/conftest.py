"""What tests share: a tiny language model on disk, a corpus of nonsense, and one finished run on them."""

import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

import vsae_lightning as vl
from refusals import Refusal, listing
from vsae_lightning.cli import main

SENTENCE = "the quick brown fox jumps over a lazy dog and packs my box with five dozen liquor jugs"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from threads, which wait for each other where other work runs beside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder; whatever a test makes of its input lies in it too, and so do the caches."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def refusal(
    desk: Path,
    capfd: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> Refusal:
    """Runs a bad command and returns the one line that it prints, having compared the disk before and after."""

    def run(arguments: list[str]) -> str:
        before = listing(desk)
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
        printed = capfd.readouterr().err
        assert "Traceback" not in printed
        lines = [line for line in printed.splitlines() if line.startswith("vsae: error: ")]
        assert len(lines) == 1, printed
        assert listing(desk) == before
        message = lines[0].removeprefix("vsae: error: ").replace(str(desk), "DESK")
        record_property("refusal", message)
        return message

    return run


@pytest.fixture
def load_refusal(desk: Path, record_property: Callable[[str, object], None]) -> Callable[[Path], str]:
    """Loads a bad autoencoder and returns the message of the `InputError`, having compared the disk."""

    def run(path: Path) -> str:
        before = listing(desk)
        with pytest.raises(vl.InputError) as error:
            vl.load(path)
        assert listing(desk) == before
        message = " ".join(str(error.value).split()).replace(str(desk), "DESK")
        record_property("refusal", message)
        return message

    return run


@pytest.fixture(autouse=True, scope="session")
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the key of sealed reports is: not in the home of who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("state")
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def quiet_trainer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Trainer]:
    """Makes a Trainer of so many steps that clips, logs nothing and writes nothing."""

    def make(max_steps: int) -> Trainer:
        return Trainer(
            max_steps=max_steps,
            gradient_clip_val=1.0,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path_factory.mktemp("trainer"),
        )

    return make


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-NeoX of 3 layers, width 32 and MLP width 96, with its own byte-level BPE; random weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny_model")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([SENTENCE, " ".join(reversed(SENTENCE.split()))], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=64,
        # With the default of 0.02 every block's contribution would drown in the residual stream.
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPTNeoXForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .txt of 200 different documents of 30 words, with blank lines between them."""
    words = random.Random(0)
    documents = [" ".join(words.choices(SENTENCE.split(), k=30)) for _ in range(200)]
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text("\n\n".join(documents), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def config(tiny_model: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole YAML for a small run of either kind; positions, lanes and blocks all matter in it."""
    folder = tmp_path_factory.mktemp("config")
    model: dict[str, Any] = {
        "d_sae": 96,
        "sparsifier": {"class_path": "TopK", "init_args": {"k": 6}},
        "sigma": "learned",
        "kl_weight": 0.05,
        "kl_warmup_steps": 5,
        "dead_after_tokens": 256,
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.003}},
        "scheduler": {"class_path": "WarmupDecay", "init_args": {"warmup_steps": 3}},
    }
    data: dict[str, Any] = {
        "model_name": str(tiny_model),
        "hook_name": "blocks.1.hook_resid_post",
        "text": {
            "class_path": "TextFiles",
            "init_args": {"paths": str(corpus), "separator": "\n\n", "held_out_fraction": 0.2},
        },
        "context_length": 16,
        "batch_size": 64,
        "block_sequences": 32,
        "lm_batch_sequences": 3,
        "validation_tokens": 240,  # five chunks, which two ranks cannot share equally
        "cache_dir": str(folder / "cache"),
    }
    content = {
        "seed_everything": 3,
        "trainer": {"accelerator": "cpu", "max_steps": 12, "val_check_interval": 6, "log_every_n_steps": 1},
        "model": {"class_path": "VSAE", "init_args": model},
        "data": {"class_path": "ActivationDataModule", "init_args": data},
        "sparsity": {"histogram_every_n_steps": 5},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="session")
def run(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one finished run."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["fit", "--config", str(config)])
    return folder / "lightning_logs" / "version_0"


@pytest.fixture(scope="session")
def sharded(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes with sharded latents left behind; see `support/sharded_runs.py`."""
    import sharded_runs

    folder = tmp_path_factory.mktemp("sharded")
    sharded_runs.fit("learned", folder / "learned" / "alone.ckpt", steps=sharded_runs.STOP)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    common = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, sharded_runs.__file__, str(folder), str(config)]
    ranks = [
        subprocess.Popen(
            command,
            env={**os.environ, **common, "NODE_RANK": "0", "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for rank in ranks:
        _, errors = rank.communicate(timeout=300)
        assert rank.returncode == 0, errors[-4000:]
    return folder

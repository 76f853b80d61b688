"""Whole training steps, of this package and of its peers, and live training on a language model's activations."""

import shutil
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

import vsae_lightning as vl
from benchmarks.gpu_timing import Line, Marks, Problem, median_milliseconds
from vsae_lightning.batches import ActivationBatch
from vsae_lightning.data.text import BUNDLED

LR = 2e-4
Step = Callable[[Tensor], object]


class Batches:
    """A few batches again and again, already on the device."""

    def __init__(self, problem: Problem) -> None:
        numbers = torch.Generator(problem.device).manual_seed(1)
        shape = (4, problem.batch, problem.d_in)
        self.rows = torch.randn(shape, generator=numbers, device=problem.device)

    def __iter__(self) -> Iterator[ActivationBatch]:
        step = 0
        while True:
            rows = self.rows[step % len(self.rows)]
            yield ActivationBatch(rows, step, (0,), step * len(rows))
            step += 1


class StepMarks(Callback):
    """Marks the end of every training step."""

    def __init__(self, device: torch.device) -> None:
        self.marks = Marks(device)

    def on_train_batch_end(self, *_: Any) -> None:
        self.marks.mark()


def train(module: LightningModule, data: Any, problem: Problem, steps: int) -> list[float]:
    """Milliseconds of every step but the first: forward, backward, clip and optimizer, by Lightning's Trainer."""
    marks = StepMarks(problem.device)
    with TemporaryDirectory() as folder:
        trainer = Trainer(
            max_steps=steps,
            gradient_clip_val=1.0,
            accelerator="gpu" if problem.device.type == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if problem.precision == "bf16" else "32-true",
            callbacks=[marks],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            limit_val_batches=0,
            default_root_dir=folder,
        )
        trainer.fit(module, data)
    return marks.marks.milliseconds()


def own_step_lines(problem: Problem, steps: int = 60) -> Iterator[Line]:
    """Before AuxK can begin, as for the peers."""
    d_in, d_sae, topk = problem.d_in, problem.d_sae, vl.TopK(problem.k)
    modules: dict[str, Callable[[], LightningModule]] = {
        "SAE": lambda: vl.SAE(d_in, d_sae, topk, seed=0),
        "VSAE, sigma 0.1": lambda: vl.VSAE(d_in, d_sae, topk, sigma=0.1, seed=0),
    }
    for name, module in modules.items():
        times = train(module(), Batches(problem), problem, steps)
        time = statistics.median(times[len(times) // 4 :])
        yield Line(f"step of {name}", "vsae_lightning", problem.precision, problem.d_sae, time, problem.batch)


def peer_line(name: str, problem: Problem, repeats: int = 30) -> Line:
    """The same step by a peer; raises ImportError where it is not installed."""
    step, batches = PEERS[name](problem), iter(Batches(problem))

    def run() -> None:
        with torch.autocast(problem.device.type, torch.bfloat16, enabled=problem.precision == "bf16"):
            step(next(batches).activations)

    time = median_milliseconds(run, problem.device, repeats=repeats)
    return Line("step of SAE", name, problem.precision, problem.d_sae, time, problem.batch)


def dictionary_learning(problem: Problem) -> Step:
    from dictionary_learning.trainers.top_k import TopKTrainer

    sizes = {"activation_dim": problem.d_in, "dict_size": problem.d_sae, "k": problem.k}
    trainer = TopKTrainer(
        steps=10**6, **sizes, layer=0, lm_name="none", lr=LR, warmup_steps=0, seed=0, device=str(problem.device)
    )
    # Step 0 would set the bias, once in a run.
    return lambda x: trainer.update(1, x)


def sparsify(problem: Problem) -> Step:
    from sparsify import SparseCoder, SparseCoderConfig

    config = SparseCoderConfig(num_latents=problem.d_sae, k=problem.k)
    coder = SparseCoder(problem.d_in, config, device=problem.device, dtype=torch.float32)
    optimizer = torch.optim.Adam(coder.parameters(), lr=LR)

    def step(x: Tensor) -> None:
        coder(x).fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        update(optimizer)
        coder.set_decoder_norm_to_unit_norm()

    return step


def sae_lens(problem: Problem) -> Step:
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.saes.sae import TrainStepInput

    config = TopKTrainingSAEConfig(d_in=problem.d_in, d_sae=problem.d_sae, k=problem.k, device=str(problem.device))
    sae = TopKTrainingSAE(config)
    optimizer = torch.optim.Adam(sae.parameters(), lr=LR)

    def step(x: Tensor) -> None:
        given = TrainStepInput(
            sae_in=x, coefficients={}, dead_neuron_mask=None, n_training_steps=1, is_logging_step=False
        )
        sae.training_forward_pass(given).loss.backward()
        update(optimizer)

    return step


PEERS: dict[str, Callable[[Problem], Step]] = {
    "dictionary_learning": dictionary_learning,
    "sparsify": sparsify,
    "sae_lens": sae_lens,
}


def update(optimizer: torch.optim.Optimizer) -> None:
    torch.nn.utils.clip_grad_norm_(
        [parameter for group in optimizer.param_groups for parameter in group["params"]], 1.0
    )
    optimizer.step()
    optimizer.zero_grad()


def live_line(name: str, problem: Problem, sequences: int = 1024, blocks: int = 4) -> Line:
    """Live training of a TopK SAE, with the language model's share of the time: all blocks but the first."""
    with TemporaryDirectory() as folder:
        model = pythia_shaped(Path(folder)) if name == "Pythia-70M's shape" else "bundled"
        data = vl.ActivationDataModule(
            model,
            "blocks.1.hook_resid_post" if model == "bundled" else "blocks.3.hook_resid_post",
            batch_size=problem.batch,
            block_sequences=sequences,
            lm_batch_sequences=256,
            max_tokens=blocks * sequences * 128,
            cache_dir=folder,
            seed=0,
        )
        module = vl.SAE(problem.d_in, problem.d_sae, vl.TopK(problem.k), seed=0)
        per_block = sequences * 127 // problem.batch
        times = train(module, data, problem, blocks * per_block)[per_block - 1 :]
    tokens = len(times) * problem.batch
    what = f"live training on {name}"
    return Line(what, "vsae_lightning", problem.precision, problem.d_sae, sum(times), tokens)


def pythia_shaped(folder: Path) -> str:
    """A model of Pythia-70M's shape, with random weights and the bundled tokenizer."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=512,
        num_hidden_layers=6,
        num_attention_heads=8,
        intermediate_size=2048,
        max_position_embeddings=2048,
        rotary_pct=0.25,
    )
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    for path in (BUNDLED / "model").glob("tokenizer*"):
        shutil.copy(path, folder)
    return str(folder)

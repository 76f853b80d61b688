"""Whole training steps, of this package and of its peers, and live training on a language model's activations."""

import shutil
import statistics
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor, nn

import vsae_lightning as vl
from benchmarks.gpu_timing import Line, Marks, Problem, median_milliseconds
from benchmarks.language_model import PYTHIA_70M, save_model
from benchmarks.step import sized
from benchmarks.workers.harness import activations
from benchmarks.workers.step_ours import Batches, quiet_trainer
from vsae_lightning.autoencoders.geometry import normalize_rows_, random_directions
from vsae_lightning.data.text import BUNDLED

Step = Callable[[Tensor], object]
PRODUCT = "encoder product"


def settings_of(problem: Problem) -> dict[str, Any]:
    """As the workers of `benchmarks.step` take them; SAELens dense, as it is by default."""
    sizes = {"d_in": problem.d_in, "d_sae": problem.d_sae, "k": problem.k, "batch": problem.batch}
    own = {"device": str(problem.device), "dead_after_tokens": 10_000_000, "sparse": False, "rescale": True}
    return {**sizes, **own, **sized(problem.d_sae)}


def batches(problem: Problem) -> list[Tensor]:
    """A few, already on the device."""
    return [rows.to(problem.device) for rows in activations(settings_of(problem))]


class StepMarks(Callback):
    """Marks the end of every training step."""

    def __init__(self, device: torch.device) -> None:
        self.marks = Marks(device)

    def on_train_batch_end(self, *_: Any) -> None:
        self.marks.mark()


def train(module: LightningModule, data: Any, problem: Problem, steps: int) -> list[float]:
    """Milliseconds of every step but the first: forward, backward, clip and optimizer, by Lightning's Trainer."""
    marks = StepMarks(problem.device)
    options = {
        "accelerator": "gpu" if problem.device.type == "cuda" else "cpu",
        "devices": 1,
        "precision": "bf16-mixed" if problem.precision == "bf16" else "32-true",
        "log_every_n_steps": 10,
    }
    quiet_trainer(steps, 1.0, marks, **options).fit(module, data)
    return marks.marks.milliseconds()


def product_lines(problem: Problem) -> Iterator[Line]:
    """x W_enc + b_enc and nothing else: what a step costs is told in units of it."""
    rows, W = batches(problem)[0].to(problem.dtype), torch.randn(problem.d_sae, problem.d_in, device=problem.device)
    W, b = W.to(problem.dtype), torch.randn(problem.d_sae, device=problem.device).to(problem.dtype)
    time = median_milliseconds(lambda: torch.addmm(b, rows, W.T), problem.device)
    yield Line(PRODUCT, "torch.addmm", problem.precision, problem.d_sae, time, problem.batch)


def own_step_lines(problem: Problem, steps: int = 60) -> Iterator[Line]:
    """Before AuxK can begin, as for the peers."""
    d_in, d_sae, topk = problem.d_in, problem.d_sae, vl.TopK(problem.k)
    modules: dict[str, Callable[[], LightningModule]] = {
        "SAE": lambda: vl.SAE(d_in, d_sae, topk, seed=0),
        "VSAE, sigma 0.1": lambda: vl.VSAE(d_in, d_sae, topk, sigma=0.1, seed=0),
    }
    for name, module in modules.items():
        times = train(module(), Batches(batches(problem)), problem, steps)
        time = statistics.median(times[len(times) // 4 :])
        yield Line(f"step of {name}", "vsae_lightning", problem.precision, problem.d_sae, time, problem.batch)


def peer_line(name: str, problem: Problem, repeats: int = 30) -> Line:
    """The same step by a peer; raises ImportError where it is not installed."""
    rows = batches(problem)
    step, turns = PEERS[name](problem, rows[0]), cycle(rows)

    def run() -> None:
        with torch.autocast(problem.device.type, torch.bfloat16, enabled=problem.precision == "bf16"):
            step(next(turns))

    time = median_milliseconds(run, problem.device, repeats=repeats)
    return Line("step of SAE", name, problem.precision, problem.d_sae, time, problem.batch)


def plain(problem: Problem, first: Tensor) -> Step:
    """A TopK SAE with unit rows as it is written in PyTorch: all latents in memory, dense products, no trainer."""
    rows = random_directions(problem.d_sae, problem.d_in, 1.0, seed=0).to(problem.device)
    W_enc, W_dec = nn.Parameter(rows.T.clone()), nn.Parameter(rows)
    b_enc, b_dec = (nn.Parameter(torch.zeros(size, device=problem.device)) for size in (problem.d_sae, problem.d_in))
    parameters = [W_enc, W_dec, b_enc, b_dec]
    optimizer = torch.optim.Adam(parameters, lr=settings_of(problem)["lr"], fused=True)

    def step(x: Tensor) -> None:
        z = torch.addmm(b_enc, x - b_dec, W_enc)
        values, indices = z.topk(problem.k, dim=-1, sorted=False)
        x_hat = torch.zeros_like(z).scatter(-1, indices, values.relu()) @ W_dec + b_dec
        (x - x_hat).square().sum(-1).mean().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        normalize_rows_(W_dec.data)

    return step


def dictionary_learning(problem: Problem, first: Tensor) -> Step:
    from benchmarks.workers.step_dictionary_learning import build

    trainer = build(settings_of(problem))
    # Step 0 would set the bias, once in a run.
    return lambda x: trainer.update(1, x)


def sparsify(problem: Problem, first: Tensor) -> Step:
    from benchmarks.workers.step_sparsify import build

    return build(settings_of(problem), first)[1]


def sae_lens(problem: Problem, first: Tensor) -> Step:
    """In the order of its SAETrainer, whose loop synchronises with the device to show its progress."""
    from sae_lens import TopKTrainingSAE
    from sae_lens.saes.sae import TrainStepInput

    from benchmarks.workers.step_saelens import sae_config

    settings = settings_of(problem)
    sae = TopKTrainingSAE(sae_config(settings))
    optimizer = torch.optim.Adam(sae.parameters(), lr=settings["lr"])

    def step(x: Tensor) -> None:
        given = TrainStepInput(
            sae_in=x, coefficients={}, dead_neuron_mask=None, n_training_steps=1, is_logging_step=False
        )
        sae.training_forward_pass(given).loss.backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


PEERS: dict[str, Callable[[Problem, Tensor], Step]] = {
    "plain PyTorch": plain,
    "dictionary_learning": dictionary_learning,
    "sparsify": sparsify,
    "sae_lens": sae_lens,
}


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
    save_model(folder, PYTHIA_70M)
    for path in (BUNDLED / "model").glob("tokenizer*"):
        shutil.copy(path, folder)
    return str(folder)

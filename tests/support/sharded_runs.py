"""What two processes do with latents sharded over them, for tests to compare; run as
`sharded_runs.py FOLDER CONFIG`, CONFIG that of a run from the command line.

Every run that is sharded here is made unsharded by the tests, with the same functions.
"""

import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import save_file
from torch import Tensor

import vsae_lightning as vl
from vsae_lightning.autoencoders.latents import SparseLatents
from vsae_lightning.autoencoders.sharding import Shards
from vsae_lightning.checkpoint_files import CheckpointFiles
from vsae_lightning.cli import main as command_line
from vsae_lightning.modules.base import AutoencoderModule

STEPS, STOP, FEW_STEPS = 60, 25, 12
D_IN = 16
COMMON: dict[str, Any] = {
    "d_in": D_IN,
    "d_sae": 96,
    "dead_after_tokens": 256,
    "seed": 1,
    "optimizer": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
}
SAMPLED: dict[str, Any] = {**COMMON, "kl_warmup_steps": 5, "kl_weight": 0.05}
ARMS: dict[str, Callable[[], AutoencoderModule]] = {
    "auxk": lambda: vl.SAE(**COMMON, sparsifier=vl.TopK(2, k_start=60, k_anneal_steps=20), aux_weight=0.5),
    "learned": lambda: vl.VSAE(**SAMPLED, sparsifier=vl.TopK(4), sigma="learned"),
    "jumprelu": lambda: vl.SAE(**COMMON, sparsifier=vl.JumpReLU(0.3, 0.3), sparsity_weight=0.1, pre_bias=False),
    "closed_form": lambda: vl.VSAE(
        **{**SAMPLED, "kl_weight": "elbo"}, sparsifier=vl.ReLU(), sigma="closed_form", kl_on="all"
    ),
    "denoising": lambda: vl.VSAE(
        **{**COMMON, "kl_weight": 0.0, "optimizer": lambda p: torch.optim.SGD(p, lr=0.003, momentum=0.9)},
        sparsifier=vl.TopK(4),
        sigma=0.2,
        covariance="encoder",
        gate_kl_weight=0.02,
        encoder="aligned",
    ),
    "gated": lambda: vl.SAE(**COMMON, sparsifier=vl.Gated(), sparsity_weight=0.1, decoder="free"),
    "magnitude": lambda: vl.VSAE(
        **SAMPLED, sparsifier=vl.TopK(4, by="magnitude"), sigma=0.1, select="mean", prior=vl.ScaledNormal("running")
    ),
    "spike_and_slab": lambda: vl.VSAE(
        **SAMPLED, sparsifier=vl.TopK(4), sigma=0.3, prior=vl.SpikeAndSlab(0.05), kl_on="all"
    ),
}


# What a run from the command line is looked at with, sharded or not.
LOOKED_AT = [
    *("--latent_map.every_n_steps", "12"),
    *("--feature_examples.every_n_steps", "12", "--feature_examples.max_tokens", "320"),
]
LONG = ("auxk", "learned", "jumprelu")


class Losses(Callback):
    """The loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.values.append(float(outputs["loss"]))


def fit(
    name: str, checkpoint: Path, steps: int | None = None, resume: Path | None = None, ranks: int = 1
) -> dict[str, Any]:
    """Train one arm up to `steps`, save it, and return its losses and metrics."""
    steps = steps or (STEPS if name in LONG else FEW_STEPS)
    losses = Losses()
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        devices=ranks,
        strategy=vl.ShardedStrategy() if ranks > 1 else "auto",
        plugins=[CheckpointFiles()] if ranks == 1 else None,
        gradient_clip_val=1.0,
        callbacks=[losses],
        val_check_interval=steps,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=checkpoint.parent,
    )
    # Of the held-out rows the ranks have different numbers.
    data = vl.SyntheticDataModule(D_IN, 48, 3.0, noise_std=0.02, batch_size=64, validation_rows=100, seed=0)
    trainer.fit(ARMS[name](), data, ckpt_path=resume)
    metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
    trainer.save_checkpoint(checkpoint)
    return {"losses": losses.values, "metrics": metrics}


def problem() -> dict[str, Tensor]:
    """Numbers for the collectives: many equal scores, and a small autoencoder in float64."""
    chance = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 5, (64, 12), generator=chance).float()
    shapes = {"x": (5, 3), "b": (3,), "W": (3, 8), "D": (8, 3)}
    return {"scores": scores} | {
        name: torch.randn(shape, generator=chance, dtype=torch.float64) for name, shape in shapes.items()
    }


def collectives(shards: Shards, folder: Path) -> None:
    """Global selections, and gradients through the exchange between ranks."""
    given = problem()
    found: dict[str, Tensor] = {}
    for k in (1, 5, 9, 12):
        offered = shards.slice(given["scores"]).topk(min(k, 12 // shards.count), dim=-1)
        won = shards.won(offered.values, offered.indices, k)
        assert won is not None
        ones = SparseLatents(won.float(), offered.indices, 12 // shards.count, shards)
        found[f"won.{k}"] = ones.dense()
    x, b = given["x"], given["b"].requires_grad_()
    W = shards.slice(given["W"]).clone().requires_grad_()
    D = shards.slice(given["D"], 0).clone().requires_grad_()
    x_hat = shards.sum((shards.copy(x - b) @ W).relu() @ D) + b
    (x - x_hat).pow(4).sum().backward()
    assert b.grad is not None
    assert W.grad is not None
    assert D.grad is not None
    found |= {"b": b.grad, "W": shards.gather(W.grad), "D": shards.gather(D.grad.T.contiguous()).T.contiguous()}
    save_file(found, folder / f"collectives-{shards.rank}.safetensors")


def refusal(resume: Path) -> str:
    """With what message a checkpoint is refused."""
    try:
        fit("auxk", resume.parent / "never.ckpt", resume=resume, ranks=2)
    except vl.InputError as error:
        return str(error)
    return ""


def torn(checkpoint: Path, folder: Path, first_rank: bool) -> Path:
    """A copy of a sharded checkpoint, one byte of which is another; made by the first rank."""
    copy = folder / "torn"
    if first_rank:
        shutil.copytree(checkpoint.resolve(), copy)
        with (copy / "shard-01-of-02.safetensors").open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"\x55")
    torch.distributed.barrier()
    return copy


def run(config: Path, folder: Path) -> None:
    """A run from the command line with the layer that shards it, and three checkpoints on its way."""
    layer = Path(__file__).parents[2] / "configs" / "trainer" / "sharded.yaml"
    os.chdir(folder)
    options = ["--trainer.devices", "2", "--checkpoint.every_n_steps", "5", *LOOKED_AT]
    command_line(["fit", "--config", str(config), "--config", str(layer), *options])


def main(folder: Path, config: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results = {name: fit(name, folder / name / "whole.ckpt", ranks=2) for name in ARMS}
    for name in ("auxk", "learned"):
        fit(name, folder / name / "begun" / "last.ckpt", steps=STOP, ranks=2)
        resumed = folder / name / "resumed" / "last.ckpt"
        fit(name, resumed, resume=folder / name / "begun" / "last.ckpt", ranks=2)
    alone = folder / "learned" / "alone.ckpt"
    results["from_alone"] = fit("learned", folder / "learned" / "from_alone" / "last.ckpt", resume=alone, ranks=2)
    rank = torch.distributed.get_rank()
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (2,))
    collectives(Shards(mesh), folder)
    message = refusal(torn(folder / "auxk" / "whole.ckpt", folder, rank == 0))
    (folder / f"refusal-{rank}.txt").write_text(message)
    run(config, folder)
    if rank == 0:
        (folder / "results.json").write_text(json.dumps(results))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""Does evaluation have the L0 that training aims at, and what do other readings than the mean give?

    python -m benchmarks.calibration

Trains an SAE and vSAEs with a diagonal posterior and with that of the encoder, with TopK and with BatchTopK each, on
the bundled model: one Ensemble per seed, so that all see the same activations. Then tests them on held-out text. Writes
`benchmarks/calibration_DATE.json`, and the table as `.md`: mean and standard deviation over seeds, which decide the
weights and the order of the text.

"Before" is the rule until 2026-11-29: the running mean of the smallest score that training selected, a sample's where
it samples. Training does not depend on the threshold, so that the same weights show both rules.
"""

import argparse
import json
import statistics
import time
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

import vsae_lightning as vl
from vsae_lightning.autoencoders.draw import Draw
from vsae_lightning.autoencoders.latents import DenseLatents
from vsae_lightning.autoencoders.running import RunningMean
from vsae_lightning.data.datamodule import ActivationDataModule
from vsae_lightning.files import replacing, write_json
from vsae_lightning.metrics import L0, ExplainedVariance

if TYPE_CHECKING:
    from vsae_lightning.modules.members import MembersModule

ROOT = Path(__file__).parents[1]
D_SAE, K, BATCH, SEQUENCES = 1024, 16, 512, 256
POSTERIORS: dict[str, dict[str, Any]] = {
    "SAE": {},
    "diagonal, sigma 0.1": {"sigma": 0.1, "kl_weight": 0.01},
    "encoder, sigma 0.25": {"sigma": 0.25, "covariance": "encoder", "kl_weight": 0.0},
}


class BothRules(vl.BatchTopK):
    """BatchTopK that also keeps the threshold of the former rule."""

    def __init__(self, k: int) -> None:
        super().__init__(k)
        self.former = RunningMean(0.0)

    def observe(self, score: Tensor | None, latents: Any, draw: Draw, rank_mean: Any) -> None:
        assert score is not None
        selected = torch.where(latents.values != 0, score.detach(), torch.inf)
        self.former.update(selected.reshape(draw.lanes, -1).amin(-1).mean())


class FormerRule(Callback):
    """What held-out rows give with the threshold of the former rule."""

    def __init__(self) -> None:
        self.l0: dict[str, L0] = {}
        self.explained: dict[str, ExplainedVariance] = {}

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        x = rest[1].activations
        for name, member in cast("MembersModule", pl_module).members().items():
            autoencoder: Any = member.autoencoder
            if isinstance(autoencoder.sparsifier, BothRules):
                score = autoencoder.evaluation_scores(member.standardize(x))
                latents = DenseLatents(score * (score > autoencoder.sparsifier.former.value.clamp_min(0)))
                self.l0.setdefault(name, L0()).update(latents.active_per_row())
                x_hat = member.in_raw_units(autoencoder.reconstruct(latents))
                self.explained.setdefault(name, ExplainedVariance(autoencoder.d_in)).update(x, x_hat)

    def values(self, name: str) -> dict[str, float]:
        if name not in self.l0:
            return {}
        computed = {"l0_before": self.l0[name].compute(), "explained_variance_before": self.explained[name].compute()}
        return {column: float(value) for column, value in computed.items()}


SPARSIFIERS: dict[str, type[vl.Sparsifier]] = {"TopK": vl.TopK, "BatchTopK": BothRules}
COLUMNS = {
    "l0_before": "L0 before",
    "explained_variance_before": "explained variance before",
    "l0": "L0",
    "explained_variance": "explained variance: mean",
    "explained_variance_recalibrated": "recalibrated",
    "explained_variance_sampled": "16 samples",
    "l0_sampled": "L0 of a sample",
    "recalibration_scale": "scale",
    "alive_fraction": "alive",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--test-batches", type=int, default=2)
    parser.add_argument("--name", default="calibration")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks")
    options = parser.parse_args()
    start = time.perf_counter()
    found = {seed: tested(seed, options) for seed in options.seeds}
    settings = {
        **{name: value for name, value in vars(options).items() if name != "out"},
        "d_sae": D_SAE,
        "k": K,
        "batch_size": BATCH,
    }
    result = {
        "date": str(date.today()),
        "settings": settings,
        "seconds": round(time.perf_counter() - start),
        "torch": str(torch.__version__),
        "metrics": found,
    }
    write_json(options.out / f"{options.name}_{date.today()}.json", result)
    text = table(list(found.values()))
    with replacing(options.out / f"{options.name}_{date.today()}.md") as temporary:
        temporary.write_text(text)
    print(text)


def members(seed: int) -> dict[str, Any]:
    """One function of d_in for every posterior and sparsifier."""
    common = {
        "dead_after_tokens": 50_000,
        "seed": seed,
        "optimizer": partial(torch.optim.Adam, lr=3e-3),
        "scheduler": partial(vl.WarmupDecay, warmup_steps=30, decay_fraction=0.2),
    }
    made = {}
    for number, options in enumerate(POSTERIORS.values()):
        cls: Any = vl.VSAE if options else vl.SAE
        for name in SPARSIFIERS:
            made[f"{name}_{number}"] = partial(_member, cls, SPARSIFIERS[name], {**common, **options})
    return made


def _member(cls: Any, sparsifier: Any, options: dict[str, Any], d_in: int) -> Any:
    return cls(d_in, D_SAE, sparsifier(K), **options)


def tested(seed: int, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The metrics of every posterior and sparsifier after training and test."""
    data = ActivationDataModule(
        "bundled",
        "blocks.1.hook_resid_post",
        batch_size=BATCH,
        block_sequences=SEQUENCES,
        validation_tokens=4096,
        seed=seed,
    )
    ensemble = vl.Ensemble(data.d_in, members(seed))
    former = FormerRule()
    trainer = Trainer(
        callbacks=[former],
        max_steps=options.steps,
        limit_val_batches=0,
        limit_test_batches=options.test_batches,
        gradient_clip_val=1.0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(ensemble, datamodule=data)
    trainer.test(ensemble, datamodule=data, verbose=False)
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    found = {}
    for number, posterior in enumerate(POSTERIORS):
        for name in SPARSIFIERS:
            prefix = f"test/{name}_{number}/"
            own = {column: values[prefix + column] for column in COLUMNS if prefix + column in values}
            found[f"{posterior}, {name}"] = {**former.values(f"{name}_{number}"), **own}
    print(json.dumps({seed: found}), flush=True)
    return found


def table(seeds: list[dict[str, dict[str, float]]]) -> str:
    """Markdown: a row for each posterior and sparsifier, mean and standard deviation over seeds."""
    shown = [column for column in COLUMNS if any(column in values for values in seeds[0].values())]
    lines = ["| | " + " | ".join(COLUMNS[column] for column in shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for name, first in seeds[0].items():
        cells = [_cell([one[name][column] for one in seeds]) if column in first else "" for column in shown]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(values: list[float]) -> str:
    digits = 2 if max(values) > 2 else 4
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


if __name__ == "__main__":
    main()

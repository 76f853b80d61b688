"""What a command prints when it is done: the metrics, where they are, and what to do next."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from vsae_lightning.callbacks.run_folder import fit_folder, run_folder, tensorboard

STAGES = {"fit": "val", "validate": "val", "test": "test", "predict": None}
COVERAGE = {
    "fit": "the validation split",
    "validate": "the validation split",
    "test": "all that is held out",
}
MEANING = {
    "explained_variance": "1 - sum|x - x_hat|^2 / sum|x - mean|^2",
    "explained_variance_all_rows": "the same with the rows that training leaves out",
    "left_out_fraction": "rows left out: data.max_norm_ratio",
    "mse": "(x - x_hat)^2 per token and dimension, raw units",
    "relative_error": "sum|x - x_hat|^2 / sum|x|^2",
    "cosine": "mean cosine of x and x_hat",
    "l2_ratio": "mean of |x_hat| / |x|: below 1 is shrinkage",
    "relative_reconstruction_bias": "x_hat / it fits best: below 1 is shrinkage",
    "ce_loss_clean": "language model, nats per token",
    "ce_loss_zero_ablated": "activations replaced by 0",
    "ce_loss_mean_ablated": "activations replaced by their mean",
    "ce_loss_spliced": "activations replaced by x_hat",
    "ce_loss_score": "(zero - spliced) / (zero - clean)",
    "ce_loss_score_mean_ablation": "(mean - spliced) / (mean - clean)",
    "kl_zero_ablated": "from the clean prediction, nats per token",
    "kl_mean_ablated": "from the clean prediction, nats per token",
    "kl_spliced": "from the clean prediction, nats per token",
    "kl_score": "(zero - spliced) / zero",
    "alive_fraction": "latents that fired",
    "explained_variance_recalibrated": "after one scale and offset, fitted in training",
    "recalibration_scale": "that scale: 1 where the mean is calibrated",
    "explained_variance_sampled": "of the mean of 16 samples, not at the mean",
    "l0_sampled": "active latents of a sample",
    "l0": "active latents per token",
    "l0_off_target": "L0 / k - 1",
    "dead_fraction": "latents that never fired",
    "loss": "what is minimised, but for AuxK; scaled units",
    "sparsity": "the sparsifier's penalty per token",
    "side": "further reconstructions, per token",
    "gate_kl": "nats, over all latents: 0 when used alike",
    "firing_precision": "of matched latents, against their features",
    "firing_recall": "of matched latents, against their features",
    "firing_f1": "of matched latents, against their features",
    "split_fraction": "features that several latents share",
    "absorbed_fraction": "parents silenced by a child",
    "sigma_calibration": "rms error of the mean in sigmas: 1 is right",
    "kl_matched": "nats per latent that stands for a feature",
    "kl_unmatched": "nats per other latent",
    "mmcs": "mean of best cosine of true features",
    "mcc": "mean cosine, features matched one to one",
    "reconstruction": "|x - x_hat|^2 per token, scaled units",
    "kl": "nats per token",
}
# Of an ensemble, what fits into a terminal; all is in the JSON.
MEMBER_COLUMNS = (
    "explained_variance",
    "ce_loss_score",
    "l0",
    "dead_fraction",
    "kl",
    "gate_kl",
    "mmcs",
    "mcc",
    "firing_f1",
    "absorbed_fraction",
)


def report(trainer: Trainer, command: str) -> None:
    """Print a table of held-out metrics and the next commands; on the first rank only."""
    folder = fit_folder(trainer) if command == "fit" else run_folder(trainer)
    if not trainer.is_global_zero:
        return
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if folder is None:
        print(f"fast_dev_run: {trainer.global_step} step(s) and their validation ran; nothing was written")
        return
    if command == "fit":
        metrics = _of_fit(folder) | metrics
    _print(command, folder, metrics, tensorboard(trainer))


def report_finished(folder: Path) -> None:
    """Print the same of a run that was finished before."""
    if getattr(rank_zero_only, "rank", 0) == 0:
        print(f"the run {folder} is finished; to go on with it, raise trainer.max_steps")
        _print("fit", folder, _of_fit(folder))


def _of_fit(folder: Path) -> dict[str, float]:
    """The metrics that a fit wrote, those from before an interruption too."""
    path = folder / "fit.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: value for name, value in content.items() if isinstance(value, float)}


def _print(command: str, folder: Path, metrics: dict[str, float], logger: TensorBoardLogger | None = None) -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False)  # a path may have [brackets]
    if not console.is_terminal:
        console.width = 120  # of a log file
    held_out = {name: value for name, value in metrics.items() if name.split("/")[0] == STAGES[command]}
    members = list(dict.fromkeys(name.split("/")[1] for name in held_out if name.count("/") == 2))
    if held_out:
        table = _of_members if members else _of_one
        console.print(table(held_out, f"held-out metrics ({COVERAGE[command]})"), soft_wrap=False)
    elif command == "fit":
        console.print(f"no validation ran; for held-out metrics: vsae test {shlex.quote(str(folder))}")
    console.print(f"run: {folder}")
    if command == "fit":
        console.print("\n      ".join(_next(folder, members, logger)))


def _next(folder: Path, members: list[str], logger: TensorBoardLogger | None) -> Iterator[str]:
    """What to do with a run, as a shell takes it."""
    run = shlex.quote(str(folder))
    commands = [] if logger is None else [f"tensorboard --logdir {shlex.quote(str(Path(logger.root_dir)))}"]
    if (folder / "checkpoints").exists():
        commands += [f"vsae test {run}", f"vsae analyze {run}" + (f" --member {members[0]}" if members else "")]
    if not commands:
        return
    first, *others = commands
    yield f"next: {first}"
    yield from others


def _of_one(metrics: dict[str, float], title: str) -> Table:
    """A row per metric, with what it means."""
    table = Table("metric", "value", "meaning", title=title)
    for name in sorted(metrics):
        table.add_row(name, f"{metrics[name]:.4f}", MEANING.get(name.split("/")[1], ""))
    return table


def _of_members(metrics: dict[str, float], title: str) -> Table:
    """A row per member of an ensemble, a column per metric."""
    members: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        _, member, metric = name.split("/")
        members.setdefault(member, {})[metric] = value
    columns = [metric for metric in MEMBER_COLUMNS if any(metric in values for values in members.values())]
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("member", no_wrap=True)
    for column in columns:
        table.add_column(column.replace("_", "\n"), overflow="fold")
    for member, values in members.items():
        table.add_row(member, *(f"{values[column]:.4g}" if column in values else "" for column in columns))
    return table

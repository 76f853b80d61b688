"""What a command prints when it is done: the metrics, where they are, and what to do next."""

from pathlib import Path

from lightning.pytorch import Trainer
from rich.console import Console
from rich.table import Table

from vsae_lightning.callbacks.run_folder import run_folder

STAGES = {"fit": "val", "validate": "val", "test": "test", "predict": None}
COVERAGE = {
    "fit": "the first validation_tokens",
    "validate": "the first validation_tokens",
    "test": "all held-out text",
}
MEANING = {
    "explained_variance": "1 - sum|x - x_hat|^2 / sum|x - mean|^2",
    "cosine": "mean cosine of x and x_hat",
    "l0": "active latents per token",
    "dead_fraction": "latents that never fired",
    "loss": "what is minimised, but for AuxK; scaled units",
    "l1": "sum |f| |W_dec| per token",
    "reconstruction": "|x - x_hat|^2 per token, scaled units",
    "kl": "nats per token",
}


def report(trainer: Trainer, command: str) -> None:
    """Print a table of held-out metrics and the next commands; on the first rank only."""
    folder = Path(str(trainer.log_dir)) if command == "fit" else run_folder(trainer)
    if not trainer.is_global_zero:
        return
    console = Console()
    held_out = [name for name in trainer.callback_metrics if name.split("/")[0] == STAGES[command]]
    if held_out:
        table = Table("metric", "value", "meaning", title=f"held-out metrics ({COVERAGE[command]})")
        for name in sorted(held_out):
            table.add_row(name, f"{float(trainer.callback_metrics[name]):.4f}", MEANING.get(name.split("/")[1], ""))
        console.print(table)
    elif command == "fit":
        console.print(f"no validation ran; for held-out metrics: vsae test {folder}", highlight=False)
    console.print(f"run: {folder}", highlight=False)
    if command == "fit":
        console.print(f"next: tensorboard --logdir lightning_logs\n      vsae test {folder}", highlight=False)

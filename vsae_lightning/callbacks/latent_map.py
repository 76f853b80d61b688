"""The dictionary as it takes shape: a map of its directions, and how near they lie to each other."""

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from vsae_lightning.autoencoders.sharding import local
from vsae_lightning.callbacks.interval import is_due
from vsae_lightning.callbacks.run_folder import tensorboard
from vsae_lightning.errors import require_at_least
from vsae_lightning.log_keys import log_key
from vsae_lightning.metrics.directions import largest_cosines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vsae_lightning.modules.members import Member, MembersModule

SMALLEST = 4  # rows of which t-SNE makes a map


class LatentMap(Callback):
    """Draws the decoder rows of every member, as images in TensorBoard, and leaves the last in its projector.

    - `train/latent_map`: t-SNE by cosine, coloured by the training tokens since the latent last fired, red where it
      is dead;
    - `train/nearest_cosine`: a histogram over all latents of the largest cosine with another row.

    Of several members each is under its name. At the end of training the rows themselves, with the tokens since each
    last fired, go to the projector. The training is not touched, but waits: a map of 1,000 latents takes three seconds
    of one CPU core; the histogram takes 2 d_sae^2 d_in operations where the decoder is.

    Args:
        every_n_steps: Optimizer steps between two drawings; None: none are made.
        max_features: So many latents are on the map and in the projector, of more the same ones every time, drawn at
            random.
        perplexity: Of t-SNE.

    Raises:
        InputError: A number that is too small.
    """

    def __init__(self, every_n_steps: int | None = None, max_features: int = 1000, perplexity: float = 30) -> None:
        steps = 1 if every_n_steps is None else every_n_steps
        require_at_least(1, **{"latent_map.every_n_steps": steps, "latent_map.perplexity": perplexity})
        require_at_least(SMALLEST, **{"latent_map.max_features": max_features})
        self.every_n_steps = every_n_steps
        self.max_features = max_features
        self.perplexity = perplexity

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if is_due(trainer, batch_idx, self.every_n_steps):
            for name, member in cast("MembersModule", pl_module).members().items():
                rows = _decoder(member)  # asks all ranks
                if (logger := _logger(trainer, rows)) is not None:
                    self._draw(logger, trainer.global_step - 1, name, member, rows)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.every_n_steps is None:
            return
        for name, member in cast("MembersModule", pl_module).members().items():
            rows = _decoder(member)
            if (logger := _logger(trainer, rows)) is not None:
                self._project(logger, trainer.global_step, name, member, rows)

    def _draw(
        self, logger: TensorBoardLogger, step: int, name: str, member: "Member", rows: Float[Tensor, "d_sae d_in"]
    ) -> None:
        from vsae_lightning.analysis.embedding import tsne

        shown = self._shown(len(rows))
        places = tsne(rows[shown].cpu().numpy(), "cosine", self.perplexity)
        silent = member.usage.tokens_since_fired.cpu()[shown]
        figures = {
            "latent_map": _map(places, silent.numpy(), member.dead_after_tokens),
            "nearest_cosine": _histogram(largest_cosines(rows).cpu().numpy()),
        }
        for key, figure in figures.items():
            logger.experiment.add_image(log_key("train", name, key), _pixels(figure), step, dataformats="HWC")

    def _project(
        self, logger: TensorBoardLogger, step: int, name: str, member: "Member", rows: Float[Tensor, "d_sae d_in"]
    ) -> None:
        shown = self._shown(len(rows))
        silent = member.usage.tokens_since_fired.cpu()[shown]
        metadata = [[str(latent), str(tokens)] for latent, tokens in zip(shown.tolist(), silent.tolist(), strict=True)]
        logger.experiment.add_embedding(
            rows[shown].cpu(),
            metadata,
            global_step=step,
            tag=log_key("decoder", name, ""),
            metadata_header=["feature", "tokens since fired"],
        )

    def _shown(self, d_sae: int) -> Int[Tensor, " shown"]:
        count = min(self.max_features, d_sae)
        return torch.from_numpy(np.sort(np.random.default_rng(0).choice(d_sae, count, replace=False)))


def _decoder(member: "Member") -> Float[Tensor, "d_sae d_in"]:
    """All decoder rows; where latents are sharded, all ranks ask together."""
    W_dec = local(member.autoencoder.W_dec.detach()).T
    return member.autoencoder.shards.gather(W_dec).T.float()


def _logger(trainer: Trainer, rows: Float[Tensor, "d_sae d_in"]) -> TensorBoardLogger | None:
    """Where the map goes: nowhere on other ranks than the first, nor of what diverged while other members go on."""
    is_drawn = len(rows) >= SMALLEST and bool(rows.isfinite().all())
    return tensorboard(trainer) if is_drawn else None


def _map(
    places: Float[np.ndarray, "n 2"], tokens_since_fired: Int[np.ndarray, " n"], dead_after_tokens: int
) -> "Figure":
    from matplotlib.figure import Figure

    dead = tokens_since_fired >= dead_after_tokens
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    alive = axes.scatter(*places[~dead].T, s=6, c=np.log10(1.0 + tokens_since_fired[~dead]), cmap="viridis")
    axes.scatter(*places[dead].T, s=6, c="tab:red")
    figure.colorbar(alive, label="log10(1 + training tokens since it last fired)")
    axes.set_title(f"{len(places):,} latents by the cosine of their decoder rows; red: dead, {int(dead.sum()):,}")
    axes.set_xticks([])
    axes.set_yticks([])
    return figure


def _histogram(cosines: Float[np.ndarray, " d_sae"]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.hist(cosines, bins=50, range=(min(0.0, float(cosines.min())), 1))
    axes.set_xlabel("largest cosine with another decoder row")
    axes.set_ylabel("latents")
    axes.set_title(f"median {np.median(cosines):.3f}")
    return figure


def _pixels(figure: "Figure") -> np.ndarray:
    """[height, width, RGBA], drawn without a display, and without pyplot, whose state is everybody's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())

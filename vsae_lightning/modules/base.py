"""What every LightningModule here shares: steps, optimizer, schedules, feature usage, logging."""

import warnings
from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torchmetrics import MetricCollection

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.geometry import geometric_median, normalize_rows_, remove_parallel_gradient_
from vsae_lightning.autoencoders.latents import Latents
from vsae_lightning.autoencoders.parts import Part
from vsae_lightning.autoencoders.posterior import Posterior
from vsae_lightning.autoencoders.precision import at_least_float32
from vsae_lightning.batches import ActivationBatch, HeldOutBatch
from vsae_lightning.errors import InputError
from vsae_lightning.metrics import L0, DeadFraction, ExplainedVariance, ReconstructionCosine
from vsae_lightning.modules.auxk import auxk_loss
from vsae_lightning.modules.schedules import WarmupDecay
from vsae_lightning.modules.threshold import InferenceThreshold
from vsae_lightning.modules.usage import FeatureUsage

Decoder = Literal["unit", "free"]
BiasInit = Literal["geometric_median", "zero"]


class ForwardPass(NamedTuple):
    """One pass over a batch, in scaled units; all that a loss needs."""

    x: Float[Tensor, "batch d_in"]
    pre_acts: Float[Tensor, "batch d_sae"]
    latents: Latents
    x_hat: Float[Tensor, "batch d_in"]
    posterior: Posterior | None = None


class AutoencoderModule(LightningModule, ABC):
    """Trains one autoencoder on a stream of activations.

    The autoencoder sees `input_scale * (x - input_mean)`; both are taken from the data module when
    training starts and kept as buffers, and `vsae_lightning.load` folds them into the weights.
    """

    input_mean: Float[Tensor, " d_in"]
    input_scale: Float[Tensor, ""]

    def __init__(
        self,
        autoencoder: SparseAutoencoder,
        bias_init: BiasInit,
        aux_weight: float,
        dead_after_tokens: int,
        optimizer: OptimizerCallable | None,
        scheduler: LRSchedulerCallable | None,
    ) -> None:
        super().__init__()
        require_at_least(0, aux_weight=aux_weight)
        require_at_least(1, dead_after_tokens=dead_after_tokens)
        self._save_plain_hyperparameters()
        self.autoencoder = autoencoder
        self.bias_init = bias_init
        self.aux_weight = aux_weight
        self.dead_after_tokens = dead_after_tokens
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.usage = FeatureUsage(autoencoder.d_sae)
        self.threshold = InferenceThreshold()
        self.tokens_seen = 0
        self.loaded_step = 0
        self.register_buffer("input_mean", torch.zeros(autoencoder.d_in))
        self.register_buffer("input_scale", torch.ones(()))
        self.reconstruction_metrics = MetricCollection(
            {"explained_variance": ExplainedVariance(autoencoder.d_in), "cosine": ReconstructionCosine()}
        )
        self.l0_metric = L0()
        self.dead_metric = DeadFraction(autoencoder.d_sae)
        # Buffers are equal on all ranks; broadcasting them before every pass would only cost time.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]

    # ------------------------------------------------------------------ loss

    @abstractmethod
    def forward_pass(
        self, x: Float[Tensor, "batch d_in"], noise: Float[Tensor, "batch d_sae"] | None = None
    ) -> ForwardPass:
        """Encode, sample with `noise` (None: take the mean), sparsify and decode a scaled batch."""

    @abstractmethod
    def terms(self, forward: ForwardPass, step: int) -> Any:
        """The terms of the loss of one pass at optimizer step `step`, as a named tuple."""

    def draw_noise(self, rows: int, step: int, lanes: tuple[int, ...]) -> Float[Tensor, "batch d_sae"] | None:
        """The noise of one training batch; None in a module that does not sample."""
        return None

    def loss(
        self, x: Float[Tensor, "batch d_in"], step: int = 0, noise: Float[Tensor, "batch d_sae"] | None = None
    ) -> Any:
        """The terms of the training loss of a batch in scaled units; changes no state.

        Args:
            x: Activations, already scaled as the autoencoder expects them.
            step: The optimizer step, on which warmed-up weights depend.
            noise: Standard normal noise for the posterior's sample; None: drawn for `step`.

        Returns:
            A named tuple of scalars, among them `total`, `reconstruction` and `aux`.
        """
        if noise is None and self.training:
            noise = self.draw_noise(len(x), step, (0,))
        return self.terms(self.forward_pass(x, noise), step)

    def reconstruction_loss(self, forward: ForwardPass) -> Float[Tensor, ""]:
        """||x - x_hat||^2, summed over d_in, mean over the batch."""
        return (at_least_float32(forward.x) - at_least_float32(forward.x_hat)).square().sum(-1).mean()

    def aux_loss(self, forward: ForwardPass) -> Float[Tensor, ""]:
        """AuxK; 0 in evaluation, and before any latent can be dead."""
        if not self.training or self.aux_weight == 0 or self.tokens_seen < self.dead_after_tokens:
            return forward.x.new_zeros(())
        dead = self.usage.dead(self.dead_after_tokens)
        return auxk_loss(forward.x - forward.x_hat, forward.pre_acts, dead, self.autoencoder.W_dec, self._rank_mean)

    def standardize(self, activations: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_in"]:
        """Raw activations to the units the autoencoder is trained in."""
        return (activations.float() - self.input_mean) * self.input_scale

    # -------------------------------------------------------------- training

    def on_fit_start(self) -> None:
        self._warn_if_never_dead()
        statistics = getattr(getattr(self.trainer, "datamodule", None), "input_statistics", None)
        if self.tokens_seen == 0 and statistics is not None:
            mean, scale = statistics()
            self.input_mean.copy_(mean)
            self.input_scale.copy_(scale)

    def on_train_batch_start(self, batch: ActivationBatch, batch_idx: int) -> None:
        if self.tokens_seen == 0 and self.bias_init == "geometric_median":
            x = self.all_gather(self.standardize(batch.activations))
            assert isinstance(x, Tensor)
            x = x.reshape(-1, self.autoencoder.d_in)
            self.autoencoder.b_dec.data.copy_(geometric_median(x))

    def training_step(self, batch: ActivationBatch, batch_idx: int) -> dict[str, Tensor]:
        x = self.standardize(batch.activations)
        forward = self.forward_pass(x, self.draw_noise(len(x), batch.step, batch.lanes))
        firing_counts = self.trainer.strategy.reduce(forward.latents.firing_counts(), reduce_op="sum")
        tokens = len(x) * self.trainer.world_size
        self.tokens_seen += tokens
        self.usage.update(firing_counts, tokens)
        self.threshold.update(forward.latents, self._rank_mean)
        terms = self.terms(forward, self.global_step)
        self._log_terms("train", terms, explained_variance=_explained_variance(forward), lr=self._lr())
        return {
            "loss": terms.total,
            "active_per_row": forward.latents.active_per_row(),
            "firing_counts": firing_counts,
        }

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # Comes before clipping: the norm that is clipped is that of the gradient that is used.
        if self.autoencoder.decoder == "unit" and self.autoencoder.W_dec.grad is not None:
            remove_parallel_gradient_(self.autoencoder.W_dec.grad, self.autoencoder.W_dec.data)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.autoencoder.decoder == "unit":
            normalize_rows_(self.autoencoder.W_dec.data)

    def configure_optimizers(self) -> Any:
        """The optimizer and schedule given; Adam at 2e-4 * sqrt(2^14 / d_sae) where none is (Gao et al. 2024)."""
        if self.optimizer is None:
            lr = 2e-4 * (2**14 / self.autoencoder.d_sae) ** 0.5
            optimizer: torch.optim.Optimizer = torch.optim.Adam(self.parameters(), lr=lr)
        else:
            try:
                optimizer = self.optimizer(self.parameters())
            except ValueError as error:
                raise InputError(f"model.init_args.optimizer: {error}") from None
        if self.scheduler is None:
            return optimizer
        scheduler = self.scheduler(optimizer)
        if isinstance(scheduler, WarmupDecay) and scheduler.total_steps is None:
            scheduler.total_steps = self.trainer.max_steps
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # ------------------------------------------------------------ evaluation

    def validation_step(self, batch: HeldOutBatch, batch_idx: int) -> None:
        self._evaluate(batch, "val")

    def on_validation_epoch_end(self) -> None:
        self._log_metrics("val")

    def test_step(self, batch: HeldOutBatch, batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test")

    def predict_step(self, batch: HeldOutBatch, batch_idx: int) -> Latents:
        return self.autoencoder.latents(self.standardize(batch.activations))

    def _evaluate(self, batch: HeldOutBatch, stage: str) -> None:
        forward = self.forward_pass(self.standardize(batch.activations))
        terms = self.terms(forward, max(self.global_step, self.loaded_step))
        self._log_terms(stage, terms, batch_size=len(forward.x), sync_dist=True)
        x_hat = forward.x_hat.float() / self.input_scale + self.input_mean
        self.reconstruction_metrics.update(batch.activations, x_hat)
        self.l0_metric.update(forward.latents.active_per_row())
        self.dead_metric.update(forward.latents.firing_counts())

    def _log_metrics(self, stage: str) -> None:
        values = {
            **self.reconstruction_metrics.compute(),
            "l0": self.l0_metric.compute(),
            "dead_fraction": self.dead_metric.compute(),
        }
        self.log_dict({f"{stage}/{name}": value for name, value in values.items()})
        for metric in (self.reconstruction_metrics, self.l0_metric, self.dead_metric):
            metric.reset()

    # --------------------------------------------------------------- records

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["autoencoder"] = self.autoencoder.config()
        checkpoint["tokens_seen"] = self.tokens_seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.tokens_seen = checkpoint["tokens_seen"]
        self.loaded_step = checkpoint["global_step"]

    def _log_terms(
        self, stage: str, terms: Any, batch_size: int | None = None, sync_dist: bool = False, **more: Tensor | float
    ) -> None:
        values: dict[str, Tensor | float] = {"loss": terms.total, **terms._asdict(), **more}
        del values["total"]
        if stage != "train":  # AuxK is not part of an evaluation, and the weights are those of the run
            values = {name: value for name, value in values.items() if name != "aux" and not name.endswith("_weight")}
        self.log_dict(
            {f"{stage}/{name}": value for name, value in values.items()}, batch_size=batch_size, sync_dist=sync_dist
        )

    def _rank_mean(self, local: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(local, reduce_op="mean") if self._trainer is not None else local

    def _lr(self) -> float:
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def _warn_if_never_dead(self) -> None:
        batch_size = getattr(getattr(self.trainer, "datamodule", None), "batch_size", None)
        if batch_size is None or self.aux_weight == 0 or self.trainer.max_steps < 0:
            return
        tokens = self.trainer.max_steps * self.trainer.accumulate_grad_batches * batch_size
        if tokens <= self.dead_after_tokens:
            rank_zero_warn(
                f"The run has {tokens:,} tokens, and a latent counts as dead after {self.dead_after_tokens:,}: "
                "AuxK can never fire. Lower --model.init_args.dead_after_tokens, or set aux_weight to 0."
            )

    def _save_plain_hyperparameters(self) -> None:
        """Keep the constructor's arguments as plain values, from which the module can be rebuilt.

        The command line hands them over plain; a module built in Python describes its parts, and leaves
        out the optimizer and scheduler, which are functions.
        """
        with warnings.catch_warnings():  # of modules among them, which are described below
            warnings.simplefilter("ignore")
            self.save_hyperparameters(ignore=["autoencoder"])
        plain = {
            name: _plain(value)
            for name, value in self.hparams.items()
            if isinstance(value, Part) or not callable(value)
        }
        plain.setdefault("_class_path", f"{type(self).__module__}.{type(self).__qualname__}")
        plain.setdefault("_instantiator", "lightning.pytorch.cli.instantiate_module")
        self.hparams.clear()  # saving adds to what is there
        self.save_hyperparameters(plain)


def require_at_least(minimum: float, **values: float) -> None:
    """Raise `InputError` for the first value below `minimum` (or not a number), by its option's name."""
    for name, value in values.items():
        if not value >= minimum:
            raise InputError(f"{name} is {value}; it must be at least {minimum}.")


def _plain(value: Any) -> Any:
    if not isinstance(value, Part):
        return value
    return {"class_path": f"{type(value).__module__}.{type(value).__qualname__}", "init_args": value.init_args()}


@torch.no_grad()
def _explained_variance(forward: ForwardPass) -> Float[Tensor, ""]:
    x = at_least_float32(forward.x)
    return 1 - (x - at_least_float32(forward.x_hat)).square().sum() / (x - x.mean(0)).square().sum()

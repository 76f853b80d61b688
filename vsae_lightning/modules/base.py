"""What every LightningModule here shares: steps, optimizer, schedules, feature usage, logging."""

from abc import abstractmethod
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_

from vsae_lightning.autoencoders.base import SparseAutoencoder
from vsae_lightning.autoencoders.draw import Draw
from vsae_lightning.autoencoders.encoded import Encoded
from vsae_lightning.autoencoders.geometry import geometric_median, normalize_rows_, remove_parallel_gradient_
from vsae_lightning.autoencoders.precision import squared_error
from vsae_lightning.autoencoders.sharding import Shards, local
from vsae_lightning.batches import ActivationBatch
from vsae_lightning.errors import require_at_least
from vsae_lightning.memory import keep_freed_memory
from vsae_lightning.modules.announcements import announce
from vsae_lightning.modules.auxk import auxk_loss
from vsae_lightning.modules.calibration import CalibratedModule
from vsae_lightning.modules.finite_steps import FiniteSteps
from vsae_lightning.modules.forward import (
    BatchMeans,
    BatchSpread,
    ForwardPass,
    Gate,
    TrainingPass,
    batch_means,
    batch_spread,
)
from vsae_lightning.modules.gate_kl import gate_kl, refuse_gate_kl, usage
from vsae_lightning.modules.held_out import HeldOutMetrics
from vsae_lightning.modules.hyperparameters import save_plain_hyperparameters
from vsae_lightning.modules.noise import standard_normal
from vsae_lightning.modules.optimizers import OnePass, make_optimizer, make_schedule
from vsae_lightning.modules.resampling import resample_dead_
from vsae_lightning.modules.terms import LossTerms
from vsae_lightning.modules.usage import FeatureUsage
from vsae_lightning.modules.warmup import linear_warmup
from vsae_lightning.readings import Readings
from vsae_lightning.seeding import generator

Encoder = Literal["free", "aligned"]
Decoder = Literal["unit", "free"]
BiasInit = Literal["geometric_median", "zero"]


class AutoencoderModule(CalibratedModule):
    """Trains one autoencoder on a stream of activations.

    The autoencoder sees `input_scale * (x - input_mean)`; both are taken from the data module when
    training starts and kept as buffers, and `vsae_lightning.load` folds them into the weights.
    `input_energy` is E||x||^2 of what it sees.
    """

    input_mean: Float[Tensor, " d_in"]
    input_scale: Float[Tensor, ""]
    input_energy: Float[Tensor, ""]

    def __init__(
        self,
        autoencoder: SparseAutoencoder,
        *,
        sparsity_weight: float,
        sparsity_warmup_steps: int,
        gate_kl_weight: float,
        gate_kl_warmup_steps: int,
        bias_init: BiasInit,
        aux_weight: float,
        dead_after_tokens: int,
        resample_every_steps: int | None,
        torch_compile: bool,
        optimizer: OptimizerCallable | None,
        scheduler: LRSchedulerCallable | None,
    ) -> None:
        super().__init__()
        require_at_least(0, sparsity_weight=sparsity_weight, sparsity_warmup_steps=sparsity_warmup_steps)
        require_at_least(0, gate_kl_weight=gate_kl_weight, gate_kl_warmup_steps=gate_kl_warmup_steps)
        require_at_least(0, aux_weight=aux_weight)
        require_at_least(
            1,
            dead_after_tokens=dead_after_tokens,
            resample_every_steps=1 if resample_every_steps is None else resample_every_steps,
        )
        refuse_gate_kl(autoencoder, gate_kl_weight)
        save_plain_hyperparameters(self, ignore=["autoencoder"])
        self.autoencoder = autoencoder
        self.sparsity_weight = sparsity_weight
        self.sparsity_warmup_steps = sparsity_warmup_steps
        self.gate_kl_weight = gate_kl_weight
        self.gate_kl_warmup_steps = gate_kl_warmup_steps
        self.bias_init = bias_init
        self.aux_weight = aux_weight
        self.dead_after_tokens = dead_after_tokens
        self.resample_every_steps = resample_every_steps
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.one_pass: OnePass | None = None  # of the optimizer that is configured
        self.training_forward = torch.compile(self.forward_pass) if torch_compile else self.forward_pass
        self.usage = FeatureUsage(autoencoder.d_sae)
        self.finite_steps = FiniteSteps()
        self.tokens_seen = 0
        self.loaded_step = 0
        self.register_buffer("input_mean", torch.zeros(autoencoder.d_in))
        self.register_buffer("input_scale", torch.ones(()))
        self.register_buffer("input_energy", torch.ones(()))
        self.held_out = HeldOutMetrics(autoencoder.d_in, autoencoder.d_sae)
        self._candidates: tuple[Tensor, Tensor] | None = None
        # Buffers are equal on all ranks; broadcasting them before every pass would only cost time.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]

    # ------------------------------------------------------------------ loss

    @abstractmethod
    def forward_pass(self, x: Float[Tensor, "batch d_in"], draw: Draw | None = None) -> ForwardPass:
        """Encode, sample, sparsify and decode a scaled batch; without a draw take the mean, as in evaluation."""

    @abstractmethod
    def terms(self, forward: ForwardPass, step: int) -> LossTerms:
        """The terms of the loss of one pass at optimizer step `step`."""

    @property
    def noise_width(self) -> int:
        """Standard normal numbers that one row needs in training."""
        return self.autoencoder.d_sae if self.autoencoder.sparsifier.samples else 0

    @property
    def noise_shards(self) -> Shards:
        """Which part of the noise this rank needs: that of its latents."""
        return self.autoencoder.shards

    def draw_noise(self, rows: int, first_row: int, lanes: tuple[int, ...]) -> Float[Tensor, "batch width"] | None:
        """The noise of a training batch, in equal parts for each lane: a function of (seed, lane, row) alone."""
        if self.noise_width == 0:
            return None
        seed, device = self.autoencoder.seed, self.device
        return standard_normal(seed, rows, self.noise_width, first_row, lanes, self.noise_shards, device)

    def loss(
        self, x: Float[Tensor, "batch d_in"], step: int = 0, noise: Float[Tensor, "batch width"] | None = None
    ) -> LossTerms:
        """The terms of the training loss of a batch in scaled units; changes no state.

        Args:
            x: Activations, already scaled as the autoencoder expects them.
            step: The optimizer step, on which warmed-up weights depend.
            noise: Standard normal noise, `noise_width` wide; None: drawn for the `step`-th batch of one lane.

        Returns:
            Scalars, among them `total`, `reconstruction`, and those of `kl`, `gate_kl`, `aux`... that there are.
        """
        if not self.training:
            return self.terms(self.forward_pass(x), step)
        noise = self.draw_noise(len(x), step * len(x), (0,)) if noise is None else noise
        return self.terms(self.forward_pass(x, Draw(step, 1, noise)), step)

    def common_terms(self, forward: ForwardPass, step: int) -> LossTerms:
        """The terms that SAE and VSAE share, and their weighted sum."""
        sparsifier = self.autoencoder.sparsifier
        reconstruction = squared_error(forward.x, forward.x_hat).mean()
        terms = LossTerms(reconstruction, reconstruction)
        if (error := self._side_error(forward)) is not None:
            terms = terms.plus("side", error.mean())
        if self.sparsity_weight:
            norms = local(self.autoencoder.W_dec).norm(dim=-1)
            penalty = sparsifier.penalty(forward.score, forward.latents, norms).mean()
            weight = self.sparsity_weight * linear_warmup(step, self.sparsity_warmup_steps)
            terms = terms.plus("sparsity", penalty, weight)
        if forward.gate is not None:
            assert forward.score is not None
            used = usage(forward.score, forward.gate.threshold, self._rank_mean)
            kl = gate_kl(used, forward.gate.target_l0, self.autoencoder.shards)
            weight = self.gate_kl_weight * linear_warmup(step, self.gate_kl_warmup_steps)
            scale = self._rank_mean(reconstruction.detach()) / forward.gate.target_l0
            terms = terms.plus("gate_kl", kl, weight, scale)
        if (aux := self.aux_loss(forward)) is not None:
            terms = terms.plus("aux", aux, self.aux_weight, self.input_energy)
        return terms

    def aux_loss(self, forward: ForwardPass) -> Float[Tensor, ""] | None:
        """AuxK; None in evaluation, 0 before any latent can be dead."""
        if not self.training or self.aux_weight == 0:
            return None
        if self.tokens_seen < self.dead_after_tokens:
            return forward.x.new_zeros(())
        dead = self.usage.dead(self.dead_after_tokens)
        residual = forward.x - forward.x_hat
        return auxk_loss(self.autoencoder, forward.encoded_x, residual, dead, self._rank_mean)

    @property
    def keep_all(self) -> bool:
        """Whether the loss needs more than the selected latents of a row."""
        return self.gate_kl_weight != 0

    def decoded(self, x: Float[Tensor, "batch d_in"], encoded: Encoded, draw: Draw | None) -> ForwardPass:
        """The pass over a batch from what the encoder made of it."""
        x_hat = self.autoencoder.reconstruct(encoded.latents)
        gate = self._gate(encoded, draw)
        return ForwardPass(x, encoded.x, encoded.latents, x_hat, encoded.score, gate, encoded.posterior)

    def standardize(self, activations: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_in"]:
        """Raw activations to the units the autoencoder is trained in."""
        return (activations.float() - self.input_mean) * self.input_scale

    # -------------------------------------------------------------- training

    def members(self) -> "dict[str, AutoencoderModule]":
        return {"": self}

    def on_fit_start(self) -> None:
        keep_freed_memory()
        announce(self)
        statistics = getattr(getattr(self.trainer, "datamodule", None), "input_statistics", None)
        if statistics is not None and self.tokens_seen == 0:
            self.take_scaling(*statistics())

    def take_scaling(self, mean: Float[Tensor, " d_in"], scale: Float[Tensor, ""], energy: Float[Tensor, ""]) -> None:
        """Scale the input from now on to scale * (x - mean), whose mean squared norm is `energy`."""
        self.input_mean.copy_(mean)
        self.input_scale.copy_(scale)
        self.input_energy.copy_(energy)

    def on_train_batch_start(self, batch: ActivationBatch, batch_idx: int) -> None:
        if self.tokens_seen == 0 and self.bias_init == "geometric_median":
            # Of the first optimizer step, whether that is one batch or several.
            further = range(1, self.trainer.accumulate_grad_batches)
            first = [batch, *(cast("Any", self.trainer.train_dataloader).batch(step) for step in further)]
            x = torch.cat([self._all_ranks(self.standardize(part.activations), part) for part in first])
            local(self.autoencoder.b_dec.data).copy_(geometric_median(x))

    def training_step(self, batch: ActivationBatch, batch_idx: int) -> dict[str, Any]:
        result = self.training_pass(batch)
        self.log_training("", result.values, self.trainer.optimizers[0])
        return {"loss": result.loss, "members": {"": result}}

    def training_pass(self, batch: ActivationBatch) -> TrainingPass:
        """Loss and statistics of one batch; updates the feature usage and whatever else training observes."""
        self.keep_for_calibration(batch)
        batch = self._batch_of_all_latents(batch)
        x = self.standardize(batch.activations)
        draw = Draw(self.global_step, len(batch.lanes), self.draw_noise(len(x), batch.first_row, batch.lanes))
        forward = self.training_forward(x, draw)
        firing_counts = self._rank_sum(forward.latents.firing_counts())
        tokens = len(x) * self._ranks_with_rows
        self.tokens_seen += tokens
        self.usage.update(firing_counts, tokens, self.tokens_seen)
        terms = self.terms(forward, self.global_step)
        self.observe(forward, draw)
        if self._resampling_is_due():
            errors = squared_error(x, forward.x_hat).detach()
            self._candidates = (self._all_ranks(x, batch), self._all_ranks(errors, batch))
        values, l0 = self._of_all_ranks(forward, terms)
        self.finite_steps.watch(values["loss"], batch, forward)
        return TrainingPass(terms.total, values, l0, firing_counts)

    @torch.no_grad()
    def _of_all_ranks(
        self, forward: ForwardPass, terms: LossTerms
    ) -> tuple[dict[str, Any], tuple[Float[Tensor, ""], Float[Tensor, ""]]]:
        """What is logged of a batch, and its L0, each over the rows of all ranks."""
        x, l0 = self._rank_means(*batch_means(forward))
        named = terms.named()
        tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
        error, variance, l0_variance, *reduced = self._rank_means(
            *batch_spread(forward, BatchMeans(x, l0)), *tensors.values()
        )
        spread = BatchSpread(error, variance, l0_variance)
        values = {**named, **dict(zip(tensors, reduced, strict=True)), "explained_variance": spread.explained_variance}
        return values, (l0, l0_variance.sqrt())

    @torch.no_grad()
    def observe(self, forward: ForwardPass, draw: Draw) -> None:
        """Take the statistics of a training batch into running means."""
        self.autoencoder.sparsifier.observe(forward.score, forward.latents, draw, self._rank_mean)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # Comes before clipping: the norm that is clipped is that of the gradient that is used.
        if self.autoencoder.decoder == "unit" and self.autoencoder.W_dec.grad is not None:
            remove_parallel_gradient_(local(self.autoencoder.W_dec.grad), local(self.autoencoder.W_dec.data))

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        self.clip_or_skip(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def clip_or_skip(self, optimizer: torch.optim.Optimizer, limit: float | None, algorithm: str | None) -> None:
        """Clip the gradient of one optimizer; take it away, and with it the step, if it or the loss is not finite."""
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            self.clip_gradients(optimizer, limit, algorithm)  # with 16-mixed the scaler does the skipping
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = self.finite_steps.admit(parameters, self.global_step, self.trainer.train_dataloader)
        if norm is None:
            self._candidates = None
            return
        if limit is not None and algorithm == "value":
            self.clip_gradients(optimizer, limit, algorithm)
        elif limit is not None:
            clip_grads_with_norm_(parameters, limit, norm)
        if self.one_pass is not None:
            self.one_pass.begin()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().optimizer_step(*args, **kwargs)
        finally:
            self.end_one_pass()
        self.after_optimizer_step(self.trainer.optimizers[0])

    def end_one_pass(self) -> None:
        """The optimizer's step is over, or has failed."""
        if self.one_pass is not None:
            self.one_pass.end()

    def after_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Renormalise the decoder; every `resample_every_steps` restart what is dead."""
        if self.autoencoder.decoder == "unit" and self.autoencoder.W_dec.grad is not None:  # None: it was skipped
            normalize_rows_(local(self.autoencoder.W_dec.data))
        if self._candidates is not None:
            dead = self.usage.dead(self.dead_after_tokens)
            chance = generator("cpu", "resampling", self.autoencoder.seed, self.global_step)
            resample_dead_(self.autoencoder, optimizer, dead, *self._candidates, chance)
            self.usage.restart(dead)
            self._candidates = None

    def configure_optimizers(self) -> Any:
        """The optimizer and schedule given; without one, Adam at a constant rate."""
        optimizer = make_optimizer(self.optimizer, self.parameters(), self.autoencoder.d_sae)
        self.one_pass = OnePass(optimizer)
        if self.scheduler is None:
            return {"optimizer": optimizer}
        return {"optimizer": optimizer, "lr_scheduler": make_schedule(self.scheduler, optimizer, self.trainer)}

    # ------------------------------------------------------------ evaluation

    def evaluation_pass(self, activations: Float[Tensor, "batch d_in"]) -> ForwardPass:
        """The pass over held-out activations, which the metrics take in; sharded, the last of several."""
        for rows in self._rows_to_evaluate(activations):
            forward = self.forward_pass(self.standardize(rows))
            terms = self.terms(forward, max(self.global_step, self.loaded_step))
            self.held_out.update(rows, self.in_raw_units(forward.x_hat), forward.latents, terms)
        return forward

    def evaluate_left_out(self, activations: Float[Tensor, "batch d_in"]) -> None:
        """Show the metrics held-out rows that training leaves out; where latents are sharded, all ranks together."""
        for rows in self._rows_to_evaluate(activations):
            self.held_out.update_left_out(rows, self.in_raw_units(self.forward_pass(self.standardize(rows)).x_hat))

    def reconstruction(self, activations: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_in"]:
        """x_hat of raw activations, in their units and float32; where latents are sharded, all ranks ask together."""
        rows = self._rows_to_evaluate(activations)
        forwards = [self.forward_pass(self.standardize(part)) for part in rows]
        return self.in_raw_units(forwards[self.autoencoder.shards.rank].x_hat)

    def readings(self) -> Readings:
        """The further ways in which a test reads this model."""
        return Readings(self.autoencoder, self.input_mean, self.input_scale)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["autoencoder"] = self.autoencoder.config()
        checkpoint["tokens_seen"] = self.tokens_seen
        checkpoint["skipped_steps"] = self.finite_steps.skipped

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.tokens_seen = checkpoint["tokens_seen"]
        self.finite_steps.skipped = checkpoint["skipped_steps"]
        self.autoencoder.seed = checkpoint["autoencoder"]["init_args"]["seed"]  # the noise goes on as it was
        self.loaded_step = checkpoint["global_step"]

    def in_raw_units(self, x_hat: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_in"]:
        """A reconstruction in scaled units in those of the raw activations, and float32."""
        return x_hat.float() / self.input_scale + self.input_mean

    def _gate(self, encoded: Encoded, draw: Draw | None) -> Gate | None:
        """What the gate KL needs to know of the sparsifier; None without one."""
        if not self.gate_kl_weight:
            return None
        sparsifier = self.autoencoder.sparsifier
        target_l0 = sparsifier.target_l0(draw)
        assert target_l0 is not None
        return Gate(sparsifier.gate_threshold(encoded.score, encoded.latents, draw), target_l0)

    def _side_error(self, forward: ForwardPass) -> Float[Tensor, " batch"] | None:
        autoencoder = self.autoencoder
        return autoencoder.sparsifier.side_error(
            forward.x, forward.score, forward.latents, local(autoencoder.W_dec), local(autoencoder.b_dec)
        )

    def _resampling_is_due(self) -> bool:
        return self.resample_every_steps is not None and (self.global_step + 1) % self.resample_every_steps == 0

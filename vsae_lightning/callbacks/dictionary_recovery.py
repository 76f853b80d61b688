"""How much of a known dictionary an autoencoder has found, at every validation and test."""

from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from vsae_lightning.callbacks.run_folder import tensorboard
from vsae_lightning.log_keys import log_key
from vsae_lightning.metrics import (
    FeatureRecovery,
    MeanKL,
    SigmaCalibration,
    latent_units,
    match_latents,
)

if TYPE_CHECKING:
    from vsae_lightning.autoencoders.posterior import Posterior
    from vsae_lightning.modules.forward import ForwardPass
    from vsae_lightning.modules.members import Member, MembersModule


class DictionaryRecovery(Callback):
    """Logs the scalars of `metrics.FeatureRecovery` as `val/...` and `test/...`, where the data module knows the truth.

    For a vSAE also:

    - `sigma_calibration`: root mean square of (true value - posterior mean) / sigma over the latents that
      are active with their own feature on (cosine above 0.5); not where sigma is 0;
    - `kl_matched`, `kl_unmatched`: mean KL in nats per latent and row, over the latents whose own feature has a
      cosine above 0.5, and over all others; not where the KL has no weight;
    - a histogram `kl_per_latent` of the mean KL of every latent.

    Of several members trained together each is logged under its name: `val/NAME/mcc`. Where the data module
    has no `dictionary`, nothing is done. What cannot be said (no parents, no matched latent) is not logged.
    """

    def __init__(self) -> None:
        self._members: dict[str, _Evidence] = {}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._update(trainer, pl_module, outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._update(trainer, pl_module, outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, pl_module, "test")

    def _update(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any) -> None:
        data = getattr(trainer, "datamodule", None)
        if not hasattr(data, "dictionary"):
            return
        members = cast("MembersModule", pl_module).members()
        for name, forward in outputs.items():
            if not members[name].autoencoder.W_dec.isfinite().all():
                continue  # diverged: there is nothing to match, and the other members go on
            if name not in self._members:
                self._members[name] = _Evidence(members[name], data)
            self._members[name].update(batch.codes, forward)

    def _log(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for name, evidence in self._members.items():
            values = evidence.compute()
            kl = values.pop("kl_per_latent", None)
            pl_module.log_dict({log_key(stage, name, key): x for key, x in values.items() if not x.isnan()})
            if kl is not None and (logger := tensorboard(trainer)) is not None:
                step = trainer.global_step - 1  # that of the scalars
                logger.experiment.add_histogram(log_key(stage, name, "kl_per_latent"), kl, step)
        self._members.clear()


class _Evidence:
    """What one member did in the batches of one evaluation; its weights stay as they are meanwhile."""

    def __init__(self, module: "Member", data: Any) -> None:
        W_dec = module.autoencoder.W_dec
        dictionary = data.dictionary.to(W_dec.device)
        matching = match_latents(dictionary, W_dec)
        self.module = module
        self.close = matching.close
        self.units = latent_units(self.close, dictionary, W_dec, module.input_scale)
        self.recovery = FeatureRecovery(matching, data.parents.to(W_dec.device)).to(W_dec.device)
        self.calibration = SigmaCalibration().to(W_dec.device)
        self.kl = MeanKL(len(W_dec)).to(W_dec.device)

    def update(self, codes: Float[Tensor, "batch num_features"], forward: "ForwardPass") -> None:
        latents = forward.latents.dense()
        self.recovery.update(codes, latents)
        if (posterior := forward.posterior) is not None:
            if posterior.of_selected:
                posterior = cast("Any", self.module).autoencoder.posterior(forward.x)
            if cast("Any", self.module).kl_weight != 0:
                self.kl.update(cast("Any", self.module).prior.kl(posterior))
            self._calibrate(codes, latents, posterior)

    def _calibrate(self, codes: Tensor, latents: Tensor, posterior: "Posterior") -> None:
        sigma = torch.as_tensor(posterior.sigma, device=latents.device).expand_as(latents)
        if (sigma > 0).all():
            features, own = self.close.features, self.close.latents
            truth = codes[:, features] * self.units
            self.calibration.update(truth, posterior.mean[:, own].float(), sigma[:, own].float(), latents[:, own] != 0)

    def compute(self) -> dict[str, Tensor]:
        values: dict[str, Tensor] = self.recovery.compute()
        if self.kl.update_called:
            kl = self.kl.compute().flatten()  # torchmetrics makes a scalar of a single latent's
            others = torch.ones_like(kl, dtype=torch.bool)
            others[self.close.latents] = False
            values |= {"kl_matched": kl[~others].mean(), "kl_unmatched": kl[others].mean(), "kl_per_latent": kl}
        if self.calibration.update_called:
            values["sigma_calibration"] = self.calibration.compute()
        return values

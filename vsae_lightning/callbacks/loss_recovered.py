"""What the language model loses when reconstructions take the place of its activations."""

from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from vsae_lightning.batches import HeldOutBatch
from vsae_lightning.errors import require_at_least
from vsae_lightning.evaluation.splice import Positions, Reconstruct, Splice
from vsae_lightning.log_keys import log_key
from vsae_lightning.metrics import MeanActivation

if TYPE_CHECKING:
    from vsae_lightning.data.datamodule import ActivationDataModule
    from vsae_lightning.modules.members import Member, MembersModule


class LossRecovered(Callback):
    """Logs `val/ce_loss_score`, `test/kl_score` and all else that `metrics.recovered` names, on held-out tokens.

    Positions are those of training: the first `drop_positions` of every sequence, and activations of too large a norm
    (`data.max_norm_ratio`), stay as they are. The means are over predictions made at the other positions; special
    tokens are as any other. (`Core` of `vsae evaluate` can also
    count as SAEBench does.) Mean ablation puts in the mean of all activations that the evaluation read.

    Of several members each is logged under its name, `val/NAME/ce_loss_score`; the clean and the ablated passes are
    made once for all. Where the data module has no language model, nothing is done.

    Args:
        max_tokens: Held-out tokens of a validation that the language model predicts, three times and once more for
            every member; at least one sequence for each lane. 0: none.
        test_max_tokens: Those of a test.

    Raises:
        InputError: A negative number of tokens.
    """

    def __init__(self, max_tokens: int = 4096, test_max_tokens: int = 50_000) -> None:
        limits = {"loss_recovered.max_tokens": max_tokens, "loss_recovered.test_max_tokens": test_max_tokens}
        require_at_least(0, **limits)
        self.max_tokens = max_tokens
        self.test_max_tokens = test_max_tokens
        self._mean: MeanActivation | None = None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self.max_tokens:
            self._take_in(trainer, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self.test_max_tokens:
            self._take_in(trainer, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, pl_module, "val", self.max_tokens)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, pl_module, "test", self.test_max_tokens)

    def _take_in(self, trainer: Trainer, batch: Any) -> None:
        if isinstance(batch, HeldOutBatch) and hasattr(getattr(trainer, "datamodule", None), "held_out_tokens"):
            self._mean = self._mean or MeanActivation(batch.activations.shape[1]).to(batch.activations.device)
            self._mean.update(batch.activations)

    def _log(self, trainer: Trainer, pl_module: LightningModule, stage: str, max_tokens: int) -> None:
        if self._mean is None:
            return
        mean, self._mean = self._mean.compute(), None
        data = cast("ActivationDataModule", cast("Any", trainer).datamodule)
        members = cast("MembersModule", pl_module).members()
        splice = Splice(data.model, members, mean.device, data.max_norm)
        reconstructions = {name: _as_evaluated(trainer, member) for name, member in members.items()}
        for tokens in data.held_out_tokens(max_tokens):
            splice.update(tokens, Positions.trained(tokens, data.layout.drop_positions), mean, reconstructions)
        for name, values in splice.compute().items():
            pl_module.log_dict({log_key(stage, name, metric): value for metric, value in values.items()})


def _as_evaluated(trainer: Trainer, member: "Member") -> Reconstruct:
    """Its reconstruction in the trainer's precision, which the language model around it does not have."""

    def reconstruct(activations: Tensor) -> Tensor:
        with trainer.precision_plugin.forward_context():
            return member.reconstruction(activations)

    return reconstruct

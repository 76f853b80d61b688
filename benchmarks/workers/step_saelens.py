"""One step of SAELens' SAETrainer with its TopK SAE, dense or sparse."""

from itertools import cycle
from typing import Any

from sae_lens import LoggingConfig, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer

from benchmarks.workers.harness import Measured, Settings, StepRecorder, activations, serve


class TimedTrainer(SAETrainer):
    """SAELens' trainer, whose last act in a step is to move its progress bar."""

    recorder: StepRecorder

    def _update_pbar(self, step_output: Any, *args: Any, **kwargs: Any) -> None:
        super()._update_pbar(step_output, *args, **kwargs)
        kept = [step_output.feature_acts, step_output.hidden_pre]
        loss = float(step_output.losses["mse_loss"].detach())
        self.recorder.end(loss, [tensor for tensor in kept if not tensor.is_sparse])


def measure(settings: Settings) -> Measured:
    sae = TopKTrainingSAE(sae_config(settings))
    recorder = StepRecorder(settings, sae.parameters())
    trainer = TimedTrainer(trainer_config(settings, recorder.total), sae, cycle(activations(settings)))
    trainer.recorder = recorder
    trainer.fit()
    return recorder.result()


def sae_config(settings: Settings) -> TopKTrainingSAEConfig:
    return TopKTrainingSAEConfig(
        d_in=settings["d_in"],
        d_sae=settings["d_sae"],
        k=settings["k"],
        use_sparse_activations=settings["sparse"],
        rescale_acts_by_decoder_norm=settings["rescale"],
        apply_b_dec_to_input=True,
        device=settings.get("device", "cpu"),
        dtype="float32",
    )


def trainer_config(settings: Settings, steps: int) -> SAETrainerConfig:
    """It clips at 1 of itself, and its latents die after `dead_feature_window` steps."""
    return SAETrainerConfig(
        total_training_samples=steps * settings["batch"],
        device="cpu",
        autocast=False,
        lr=settings["lr"],
        lr_end=settings["lr"],
        lr_scheduler_name="constant",
        lr_warm_up_steps=0,
        adam_beta1=0.9,
        adam_beta2=0.999,
        lr_decay_steps=0,
        n_restart_cycles=1,
        train_batch_size_samples=settings["batch"],
        dead_feature_window=settings["dead_after_tokens"] // settings["batch"],
        feature_sampling_window=2000,
        logger=LoggingConfig(log_to_wandb=False),
        n_checkpoints=0,
        checkpoint_path=None,
        save_final_checkpoint=False,
    )


if __name__ == "__main__":
    serve(measure)

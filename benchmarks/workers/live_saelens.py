"""Live training with SAELens: its training runner, on a TransformerLens bridge of a local language model."""

import numpy as np
from datasets import Dataset
from sae_lens import LanguageModelSAERunnerConfig, LanguageModelSAETrainingRunner, LoggingConfig
from transformer_lens.model_bridge import TransformerBridge

from benchmarks.workers.harness import Measured, Settings, StepRecorder, serve, whole_buffers
from benchmarks.workers.step_saelens import TimedTrainer, sae_config


def measure(settings: Settings) -> Measured:
    settings = whole_buffers(settings, settings["buffer"] // settings["batch"] // 2)
    steps = settings["warmup"] + settings["steps"]
    model = TransformerBridge.boot_transformers(settings["model"], device="cpu")
    model.eval().requires_grad_(False)
    model.original_model.set_attn_implementation("sdpa")
    rows = Dataset.from_dict({"input_ids": np.load(settings["tokens"]).astype(np.int64)})
    runner = LanguageModelSAETrainingRunner(config(settings, steps), override_dataset=rows, override_model=model)
    trainer = TimedTrainer(runner.cfg.to_sae_trainer_config(), runner.sae, runner.activations_store)
    trainer.recorder = StepRecorder(settings, runner.sae.parameters(), watch_memory=False)
    runner.run_trainer_with_interruption_handling(trainer)
    return trainer.recorder.live(settings["batch"])


def config(settings: Settings, steps: int) -> "LanguageModelSAERunnerConfig[object]":
    """The buffer holds `n_batches_in_buffer` contexts, whatever its name."""
    return LanguageModelSAERunnerConfig(
        sae=sae_config({**settings, "sparse": False, "rescale": True}),
        model_name="local",
        hook_name=settings["hook"],
        context_size=settings["context"],
        prepend_bos=False,
        n_batches_in_buffer=settings["buffer"] // settings["context"],
        store_batch_size_prompts=settings["lm_batch"],
        training_tokens=steps * settings["batch"],
        train_batch_size_tokens=settings["batch"],
        lr=settings["lr"],
        lr_end=settings["lr"],
        dead_feature_window=settings["dead_after_tokens"] // settings["batch"],
        logger=LoggingConfig(log_to_wandb=False),
        device="cpu",
        dtype="float32",
        checkpoint_path=None,
        output_path=None,
        verbose=False,
    )


if __name__ == "__main__":
    serve(measure)

"""One step of dictionary_learning's TopKTrainer."""

from dictionary_learning.trainers.top_k import TopKTrainer

from benchmarks.workers.harness import Measured, Settings, StepRecorder, activations, run, serve


def measure(settings: Settings) -> Measured:
    trainer = build(settings)
    batches = activations(settings)
    recorder = StepRecorder(settings, trainer.ae.parameters())
    return run(lambda step: float(trainer.update(step, batches[step % len(batches)])), recorder)


def build(settings: Settings) -> TopKTrainer:
    """It clips at 1 of itself, and its latents die after 10 million tokens."""
    return TopKTrainer(
        steps=1_000_000,
        activation_dim=settings["d_in"],
        dict_size=settings["d_sae"],
        k=settings["k"],
        layer=0,
        lm_name="none",
        lr=settings["lr"],
        warmup_steps=0,
        seed=0,
        device=settings.get("device", "cpu"),
    )


if __name__ == "__main__":
    serve(measure)

"""Where the time of one training step goes, operator by operator."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.profiler import ProfilerActivity, profile

from benchmarks.workers.harness import Measured, Settings, activations, serve
from benchmarks.workers.step_ours import Batches, build, quiet_trainer


class Profiled(Callback):
    """Profiles the steps behind the warm-up."""

    def __init__(self, warmup: int) -> None:
        self.warmup = warmup
        self.profiler = profile(activities=[ProfilerActivity.CPU])

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if trainer.global_step == self.warmup:
            self.profiler.start()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.profiler.stop()


def measure(settings: Settings) -> Measured:
    watch = Profiled(settings["warmup"])
    trainer = quiet_trainer(settings["warmup"] + settings["steps"], settings["clip"], watch)
    trainer.fit(build(settings), Batches(activations(settings)))
    found = watch.profiler.key_averages()
    total = sum(operator.self_cpu_time_total for operator in found)
    largest = sorted(found, key=lambda operator: operator.self_cpu_time_total, reverse=True)[: settings["top"]]
    operators = [
        {
            "operator": operator.key,
            "self_ms": operator.self_cpu_time_total / 1e3 / settings["steps"],
            "percent": 100 * operator.self_cpu_time_total / total,
            "calls": operator.count / settings["steps"],
        }
        for operator in largest
    ]
    return {"ms": total / 1e3 / settings["steps"], "operators": operators}


if __name__ == "__main__":
    serve(measure)

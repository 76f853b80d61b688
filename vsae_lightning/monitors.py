"""Metrics that callbacks and schedules monitor, known before a run is long under way."""

from collections.abc import Iterator

from lightning.pytorch import Trainer

from vsae_lightning.errors import InputError, did_you_mean
from vsae_lightning.log_keys import log_key
from vsae_lightning.modules.members import MembersModule
from vsae_lightning.report import MEANING

OURS = ("lightning.pytorch.", "vsae_lightning.")


def require_known_monitors(trainer: Trainer, module: MembersModule) -> None:
    """Refuse a callback whose `monitor` no run logs, such as val_loss for val/loss.

    A metric that a user's own callback may log, or a name below `train/`, is let pass.

    Raises:
        InputError: With the metrics of a near name.
    """
    if any(not type(callback).__module__.startswith(OURS) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        return
    known = [log_key("val", name, metric) for name in module.members() for metric in MEANING]
    for what, monitor in _monitors(trainer):
        if not monitor.startswith("train/") and monitor not in known:
            near = did_you_mean(monitor, known) or f" Metrics of a run are {', '.join(known[:4])}, ..."
            raise InputError(f"trainer.callbacks: {what} has the monitor {monitor!r}, which is not logged.{near}")


def _monitors(trainer: Trainer) -> Iterator[tuple[str, str]]:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str):
            yield type(callback).__name__, monitor

"""Curves of training, as TensorBoard has them."""

import math
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

from vsae_lightning.errors import InputError, printable
from vsae_lightning.files import require_file

MAX_EVENT_BYTES = 200_000_000  # read in Python, at some MB a second
CURVES = ("explained_variance", "l0", "dead_fraction")
Curve = dict[int, float]


def read_curves(
    folder: Path, config: dict[str, Any], stages: Collection[str] = ("train",), metrics: Collection[str] = CURVES
) -> dict[str, Curve]:
    """What TensorBoard has of a training, by name, over tokens seen; nothing, with a warning, where it is unreadable.

    Args:
        folder: Of the run.
        config: Its configuration.
        stages: `train`, or `val` too.
        metrics: Which, of every member of an ensemble.
    """
    data, trainer = config.get("data") or {}, config.get("trainer") or {}
    batch, accumulated = (data.get("init_args") or {}).get("batch_size"), trainer.get("accumulate_grad_batches") or 1
    files = [path for path in folder.iterdir() if "tfevents" in path.name] if folder.is_dir() else []
    if not files or not isinstance(batch, int) or not isinstance(accumulated, int):
        return {}
    try:
        for path in files:
            require_file(path)
        if sum(path.stat().st_size for path in files) > MAX_EVENT_BYTES:
            raise InputError(f"more than {MAX_EVENT_BYTES:,} bytes")
        scalars = _scalars(folder, stages, metrics)
    except Exception as error:  # garbage makes the reader fail in a dozen ways
        why = error if isinstance(error, InputError) else type(error).__name__
        warnings.warn(
            printable(f"{folder}: its event files are not readable, so it has no curves ({why})"), stacklevel=2
        )
        return {}
    tokens = batch * accumulated
    return {tag: {(step + 1) * tokens: value for step, value in points} for tag, points in scalars.items()}


def _scalars(folder: Path, stages: Collection[str], metrics: Collection[str]) -> dict[str, list[tuple[int, float]]]:
    """The finite values by their steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 1, "images": 1, "tensors": 1})
    events.Reload()
    parts = {tag: tag.split("/") for tag in events.Tags()["scalars"]}
    wanted = [tag for tag, named in parts.items() if named[0] in stages and named[-1] in metrics]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag) if math.isfinite(e.value)] for tag in wanted}

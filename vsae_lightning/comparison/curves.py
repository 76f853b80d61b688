"""Curves of training, as TensorBoard has them."""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

CURVES = ("explained_variance", "l0", "dead_fraction")
Curve = dict[int, float]


def read_curves(
    folder: Path, config: dict[str, Any], stages: Collection[str] = ("train",), metrics: Collection[str] = CURVES
) -> dict[str, Curve]:
    """What TensorBoard has of a training, by name, over tokens seen.

    Args:
        folder: Of the run.
        config: Its configuration.
        stages: `train`, or `val` too.
        metrics: Which, of every member of an ensemble.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data, trainer = config.get("data") or {}, config.get("trainer") or {}
    batch = (data.get("init_args") or {}).get("batch_size")
    if not any(folder.glob("events.out.tfevents.*")) or not isinstance(batch, int):
        return {}
    tokens = batch * (trainer.get("accumulate_grad_batches") or 1)
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 1})
    events.Reload()
    parts = {tag: tag.split("/") for tag in events.Tags()["scalars"]}
    wanted = [tag for tag, named in parts.items() if named[0] in stages and named[-1] in metrics]
    return {
        tag: {(e.step + 1) * tokens: e.value for e in events.Scalars(tag) if math.isfinite(e.value)} for tag in wanted
    }

"""Curves of training, as TensorBoard has them."""

import math
from pathlib import Path
from typing import Any

CURVES = ("explained_variance", "l0", "dead_fraction")
Curve = dict[int, float]


def read_curves(folder: Path, config: dict[str, Any]) -> dict[str, Curve]:
    """What TensorBoard has of the training, by name, over tokens seen."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data, trainer = config.get("data") or {}, config.get("trainer") or {}
    batch = (data.get("init_args") or {}).get("batch_size")
    if not any(folder.glob("events.out.tfevents.*")) or not isinstance(batch, int):
        return {}
    tokens = batch * (trainer.get("accumulate_grad_batches") or 1)
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 1})
    events.Reload()
    wanted = [tag for tag in events.Tags()["scalars"] if tag.startswith("train/") and tag.split("/")[-1] in CURVES]
    return {
        tag: {(e.step + 1) * tokens: e.value for e in events.Scalars(tag) if math.isfinite(e.value)} for tag in wanted
    }

"""Options of the trainer that Lightning takes without a word, and then fails at or ignores."""

import re
from typing import Any

from vsae_lightning.errors import InputError, require_at_least

AT_LEAST = {
    "trainer.accumulate_grad_batches": 1,
    "trainer.gradient_clip_val": 0,
    "trainer.log_every_n_steps": 0,
    "trainer.num_nodes": 1,
}
MAX_SEED = 2**32 - 1


def require_sound_options(config: Any, fits: bool) -> None:
    """Refuse options of the trainer that make no sense.

    Args:
        config: Those of one command.
        fits: Whether it trains.

    Raises:
        InputError: One that makes none.
    """
    trainer = config.trainer
    if trainer.precision in ("bf16-true", "16-true"):
        raise InputError(f"trainer.precision is {trainer.precision!r}; use bf16-mixed, or 32-true.")
    if config.get("weights_only") is False:
        raise InputError("weights_only is False; a checkpoint is never read so, since it could execute code.")
    for option, minimum in AT_LEAST.items():
        value = trainer.get(option.partition(".")[2])
        if value is not None:
            require_at_least(minimum, **{option: value})
    _require_devices(trainer.devices)
    if trainer.overfit_batches:
        raise InputError(
            f"trainer.overfit_batches is {trainer.overfit_batches}, which is not supported: the stream never repeats. "
            "Give data.max_tokens for a small training text."
        )
    if trainer.reload_dataloaders_every_n_epochs:
        raise InputError(
            "trainer.reload_dataloaders_every_n_epochs is not supported: a run is one pass over a stream; leave it out."
        )
    if fits:
        _require_steps(trainer.max_steps, trainer.val_check_interval)


def callbacks_left_out(trainer: Any) -> set[str]:
    """Which of the callbacks that are always there an option of the trainer turns off."""
    quick = bool(trainer.fast_dev_run)
    return {
        *(["progress"] if trainer.enable_progress_bar is False else []),
        *(["checkpoint"] if trainer.enable_checkpointing is False or quick else []),
    }


def require_seed(seed: Any) -> None:
    """Refuse a seed that numpy has no room for."""
    if not isinstance(seed, bool) and not 0 <= seed <= MAX_SEED:
        raise InputError(f"seed_everything is {seed}; it must be between 0 and {MAX_SEED}.")


def _require_steps(max_steps: int, interval: Any) -> None:
    if max_steps == 0 or max_steps < -1:
        raise InputError(f"trainer.max_steps is {max_steps}; it must be at least 1.")
    right = interval >= 1 if type(interval) is int else not isinstance(interval, float) or 0 < interval <= 1
    if not right:
        raise InputError(
            f"trainer.val_check_interval is {interval}; it must be a number of steps, at least 1, or a part of an "
            "epoch between 0 and 1."
        )


def _require_devices(devices: Any) -> None:
    each = devices if isinstance(devices, list) else str(devices).split(",")
    words = isinstance(devices, list) or "," in str(devices)  # names of devices; else their number
    pattern = r"\d+|" if words else r"[1-9]\d*|-1|auto"
    if not each or not all(re.fullmatch(pattern, str(entry).strip()) for entry in each):
        raise InputError(f"trainer.devices is {devices!r}; give a number of at least 1, a list of devices, or auto.")

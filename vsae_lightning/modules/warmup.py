"""Weights of penalties that rise at the start of a run."""


def linear_warmup(step: int, warmup_steps: int) -> float:
    """s(t) = min(1, t / warmup_steps), from 0 at step 0; 1 where there is no warm-up."""
    return min(1.0, step / warmup_steps) if warmup_steps else 1.0

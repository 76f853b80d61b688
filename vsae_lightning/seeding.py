"""Random streams that need no state: every seed is a function of what it is for."""

import hashlib
import os

import torch


def derive_seed(purpose: str, *numbers: int) -> int:
    """A 63-bit seed for one purpose and its coordinates, e.g. ("noise", seed, step, lane)."""
    key = ":".join([purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little") >> 1


def generator(device: torch.device | str, purpose: str, *numbers: int) -> torch.Generator:
    """A generator on `device` at the start of the stream of that purpose."""
    return torch.Generator(device).manual_seed(derive_seed(purpose, *numbers))


def global_seed() -> int:
    """The seed given to `seed_everything`, 0 if none was."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))

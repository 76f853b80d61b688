"""Compiles every Triton kernel for a Hopper GPU, without one: runs in a process of its own, prints one JSON.

For each program and the dtype of its inputs: bytes of shared memory.
"""

import json
import os
import tempfile
from types import SimpleNamespace
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from vsae_lightning.autoencoders.kernels import triton as kernels

compiled: dict[str, int] = {}


def launcher(self: Any, grid: Any) -> Any:
    """What stands for a launch: the same specialisation and compilation, and no run."""

    def launch(*args: Any, **kwargs: Any) -> None:
        kernel = self.run(*args, grid=grid, warmup=True, **kwargs)
        name = f"{self.fn.__name__} {str(args[0].dtype).removeprefix('torch.')}"
        compiled[name] = kernel.metadata.shared

    return launch


def main() -> None:
    driver.set_active(
        SimpleNamespace(
            get_current_target=lambda: GPUTarget("cuda", 90, 32),
            get_current_device=lambda: 0,
            get_current_stream=lambda device: 0,
        )
    )
    JITFunction.__getitem__ = launcher
    for dtype in (torch.float32, torch.bfloat16):
        x, W_dec = torch.zeros(128, 64, dtype=dtype), torch.zeros(256, 64, dtype=dtype)
        values, indices = kernels.topk_of_linear(x, W_dec.T, W_dec[:, 0].contiguous(), 16)
        kernels.decode(values, indices, W_dec)
        kernels.dot_at(x, W_dec, indices)
        kernels.weight_gradient(values, indices, x, 256)
    print(json.dumps(compiled))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRITON_CACHE_DIR"] = cache
        main()

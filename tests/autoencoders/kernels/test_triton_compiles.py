"""What the interpreter cannot tell: that every Triton kernel compiles for a Hopper GPU, and fits one."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "support" / "compile_triton.py"
PROGRAMS = {"topk", "decode", "dot_at", "sum_pieces", "sum_segments"}
SHARED_MEMORY = 227 * 1024  # of one processor of a Hopper GPU


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_every_kernel_compiles_for_hopper() -> None:
    printed = subprocess.run([sys.executable, SCRIPT], check=True, capture_output=True, text=True).stdout
    compiled = json.loads(printed.splitlines()[-1])
    expected = {f"{program} {dtype}" for program in PROGRAMS for dtype in ("float32", "bfloat16")}
    assert set(compiled) == expected
    assert max(compiled.values()) <= SHARED_MEMORY

"""What the allocator keeps, by the page faults of a process of its own."""

import subprocess
import sys

import pytest

CODE = """
import resource, torch
from vsae_lightning.memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.ones(2**24)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / 2**26)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it asks glibc, of Linux")
def test_memory_that_is_made_anew_is_not_asked_for_anew() -> None:
    """Of 40 tensors of 64 MB one after another; a few, until the heap has room for them beside what else there is."""
    kept, returned = (
        float(subprocess.run([sys.executable, "-c", CODE.format(keep=keep)], capture_output=True, check=True).stdout)
        for keep in (True, False)
    )
    assert kept < 20
    assert returned >= 40

"""Freed memory stays with the process, so that tensors made again take no page faults."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from exeunt.backends.timing.device import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(10):
    torch.ones(1 << 23)  # 32 MiB, which glibc else maps anew each time
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(1 << 23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_page_faults_go_away() -> None:
    faults = {
        mode: int(
            subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, check=True, text=True).stdout
        )
        for mode in ("keep", "plain")
    }
    assert faults["keep"] < faults["plain"] / 10

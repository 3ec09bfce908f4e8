"""The most memory that something used while it ran, with a name that says what was counted."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from sys import platform

import torch


@dataclass(frozen=True)
class PeakMemory:
    """A peak in bytes, and what it is the peak of.

    `counted` is "cuda tensors" (what torch's allocator handed out, weights included), "process" (resident memory of the
    whole process while the function ran) or "process since its start" (where the system keeps only that).
    """

    num_bytes: int
    counted: str


def peak_memory(run: Callable[[], object], device: torch.device) -> PeakMemory:
    """Call `run` and return the peak on `device` meanwhile."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return PeakMemory(torch.cuda.max_memory_allocated(device), "cuda tensors")
    counted = "process" if _reset_resident_peak() else "process since its start"
    run()
    return PeakMemory(_resident_peak(), counted)


def _reset_resident_peak() -> bool:
    """Linux sets a process's resident peak to its present size when 5 is written to this file (man 5 proc)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident_peak() -> int:
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if platform == "darwin" else 1024  # macOS counts bytes, the others kilobytes
    return getrusage(RUSAGE_SELF).ru_maxrss * unit

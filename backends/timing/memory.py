"""Memory: the most that something used while it ran, errors that fewer images a call may avoid (told from those of a
broken device), and keeping what the C library would give back to the system between two operations.

glibc returns freed memory at the top of its heap, and the next operation's tensors take page faults to get it again:
about 10,000 in each call of a DiT (width 128, 16 tokens, batch 64), which made trajectories 17 to 40 % slower on two
cores and let their times scatter by 15 %. With freed memory kept there are none, and the times agree to 1 %.
"""

import ctypes
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

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
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, the others kilobytes
    return getrusage(RUSAGE_SELF).ru_maxrss * unit


# Words of PyTorch's allocators and of CUDA's libraries, which raise plain RuntimeErrors.
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
BROKEN = ("CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS", "HIP error")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on any device or in Python itself."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def is_broken_device(error: BaseException) -> bool:
    """Whether a device failed in a way after which this process can't use it any more."""
    known = isinstance(error, torch.AcceleratorError) or any(words in str(error) for words in BROKEN)
    return isinstance(error, RuntimeError) and known and not is_out_of_memory(error)


def free_cached_memory(device: torch.device) -> None:
    """Gives back what PyTorch keeps for later, since what failed may have wanted it in other pieces."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
KEPT_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB of freed memory; returns whether its C library is glibc and could be told.

    For programs that sample on the CPU: call it once at their start, before any timing. Elsewhere it does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return all(libc.mallopt(option, KEPT_BYTES) == 1 for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD))

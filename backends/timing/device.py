"""The device: its name and description, and its memory.

A timing depends on the device, its driver, the versions and the threads besides the schedule and the weights. Two
timings may be compared when these descriptions are equal, so their digest is part of every timing's key.

Of memory: the most that something used while it ran, errors that fewer images a call may avoid (told from those of a
broken device), and keeping what the C library would give back to the system between two operations. glibc returns freed
memory at the top of its heap, and the next operation's tensors take page faults to get it again: about 10,000 in each
call of a DiT (width 128, 16 tokens, batch 64), which made trajectories 17 to 40 % slower on two cores and let their
times scatter by 15 %. With freed memory kept there are none, and the times agree to 1 %.
"""

import ctypes
import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import torch

from ..errors import DeviceError, InputError
from .samples import Environment


def device_id(device: str | torch.device) -> str:
    """The physical device's name, for locks: "cpu", or "cuda-" and the UUID, which no `CUDA_VISIBLE_DEVICES` renumbers.

    Raises:
        DeviceError: the device is not there.
    """
    target = check_device(device)
    if target.type != "cuda":
        return target.type
    return f"cuda-{_properties(target).uuid}"


def device_name(device: str | torch.device) -> str:
    """The model of the device, such as "Intel(R) Xeon(R) Processor, 2 threads" or "NVIDIA H200".

    Raises:
        DeviceError: the device is not there.
    """
    target = check_device(device)
    if target.type == "cuda":
        return torch.cuda.get_device_name(target)
    return f"{_cpu_model()}, {torch.get_num_threads()} threads"


def environment(device: str | torch.device) -> Environment:
    """What a timing on `device` depends on besides the schedule, the weights, the dtype and the executor.

    Returns:
        Plain values that JSON can hold. The processor is part of it on CUDA too, since small batches wait for it.

    Raises:
        DeviceError: the device is not there.
    """
    target = check_device(device)
    described: Environment = {
        "device": device_name(target),
        "device_type": target.type,
        "processor": _cpu_model(),
        "processors_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torch_threads": torch.get_num_threads(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }
    return described | (_cuda(target) if target.type == "cuda" else {})


def _properties(target: torch.device) -> Any:
    return torch.cuda.get_device_properties(target)


def _cuda(target: torch.device) -> Environment:
    properties = _properties(target)
    return {
        "memory_bytes": properties.total_memory,
        "multiprocessors": properties.multi_processor_count,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "driver": _nvidia_driver(Path("/proc/driver/nvidia/version")),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def _nvidia_driver(path: Path) -> str | None:
    """The kernel module's version as it says itself; None where there is no such module (ROCm, WSL)."""
    if not path.is_file():
        return None
    found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", path.read_text())
    return found.group() if found else None


def _cpu_model() -> str:
    """ "model name" of /proc/cpuinfo, which ARM and other systems lack: then what Python's `platform` knows."""
    path = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", path.read_text(), re.MULTILINE) if path.is_file() else None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def check_device(device: str | torch.device) -> torch.device:
    """The device as torch knows it.

    Raises:
        InputError: not a device's name.
        DeviceError: a CUDA device that is not there.
    """
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device: must be `cpu`, `cuda` or `cuda:N`, but got `{device}`. Use `cpu`.") from error
    if target.type == "cuda":
        count = torch.cuda.device_count()
        if (target.index or 0) >= count:
            seen = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
            raise DeviceError(
                f"device: `{device}` does not exist; torch sees {count} CUDA devices "
                f"(CUDA_VISIBLE_DEVICES {seen}). Use `--device cpu`."
            )
    return target


@dataclass(frozen=True)
class PeakMemory:
    """A memory peak in bytes, and what it counts.

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

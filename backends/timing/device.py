"""What a timing depends on besides the schedule and the weights: the device, its driver, the versions and the threads.

Two timings may be compared when these descriptions are equal, so their digest is part of every timing's key.
"""

import os
import platform
import re
from pathlib import Path
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
        raise InputError(f"device: must be `cpu`, `cuda` or `cuda:N`, but got `{device}`.") from error
    if target.type == "cuda":
        count = torch.cuda.device_count()
        if (target.index or 0) >= count:
            seen = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
            raise DeviceError(
                f"device: `{device}` is not there; torch sees {count} CUDA devices "
                f"(CUDA_VISIBLE_DEVICES {seen}). Use `--device cpu`."
            )
    return target

"""Telling errors that fewer images a call may mend from those that say that the device itself is broken."""

import torch

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

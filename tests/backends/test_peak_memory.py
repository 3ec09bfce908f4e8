"""Peaks of memory on real allocations."""

import pytest
import torch
from exeunt.backends.peak_memory import peak_memory

MEBIBYTE = 2**20


def test_a_large_tensor_is_seen_in_the_peak() -> None:
    device = torch.device("cpu")
    without = peak_memory(lambda: None, device)
    peak = peak_memory(lambda: torch.ones(16 * MEBIBYTE), device)  # 64 MiB in float32
    assert peak.counted in ("process", "process since its start")
    assert peak.num_bytes >= 64 * MEBIBYTE
    if peak.counted == "process":
        assert peak.num_bytes - without.num_bytes > 48 * MEBIBYTE
        assert peak_memory(lambda: None, device).num_bytes < peak.num_bytes


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_peak_is_the_allocators() -> None:
    device = torch.device("cuda")
    peak = peak_memory(lambda: torch.ones(64 * MEBIBYTE, device=device), device)
    assert peak.counted == "cuda tensors"
    assert peak.num_bytes >= 256 * MEBIBYTE

"""Peaks of memory on real allocations, and what is known of them before."""

import subprocess
import sys

import pytest
import torch
from exeunt.backends.networks.dit import DiT, DiTNetwork
from exeunt.backends.networks.registry import load_network
from exeunt.backends.schedule import REUSE, Schedule, forecast, with_exits
from exeunt.backends.solvers.tables import make_schedule
from exeunt.backends.timing.device import peak_memory
from exeunt.backends.timing.memory import footprint
from exeunt.backends.timing.pieces import tensor_bytes, trajectory

SCRIPT = """
import torch
from exeunt.backends.timing.device import peak_memory

for run in (lambda: None, lambda: torch.ones(16 * 2**20), lambda: None):
    peak = peak_memory(run, torch.device("cpu"))
    print(peak.counted.split()[0], "since" in peak.counted, peak.num_bytes / 2**20)
"""


def test_a_large_tensor_is_seen_in_the_peak() -> None:
    """In a process of its own, since others keep freed memory, from which 64 MiB come without a higher peak."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=120)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert {counted for counted, _, _ in lines} == {"process"}
    before, during, after = (float(mebibytes) for _, _, mebibytes in lines)
    assert during >= 64
    if lines[0][1] == "False":  # the peak can be set back
        assert during - before > 48
        assert after < during


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_peak_is_the_allocators() -> None:
    device = torch.device("cuda")
    peak = peak_memory(lambda: torch.ones(64 * 2**20, device=device), device)
    assert peak.counted == "cuda tensors"
    assert peak.num_bytes >= 256 * 2**20


def dit(device: str, width: int = 16, tokens: int = 4, blocks: int = 6) -> DiTNetwork:
    torch.manual_seed(0)
    module = DiT(input_size=2 * tokens, patch_size=2, channels=1, width=width, depth=blocks, num_heads=2, num_classes=3)
    noise = load_network("closed-form").noise
    module = module.to(device)
    return DiTNetwork(module, name="tiny", weights_sha256=None, num_classes=3, prediction="epsilon", noise=noise)


def schedules(network: DiTNetwork, guidance: float | None) -> tuple[Schedule, Schedule, Schedule]:
    """The full one, one that reuses what four blocks stored as one, and one that extrapolates three times of it."""
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=6, guidance=guidance)
    return full, with_exits(full, [6, 2, 6, 2, 6, 2], REUSE), with_exits(full, [6, 6, 6, 2, 2, 2], forecast(2))


@pytest.mark.parametrize("guidance", [None, 2.0])
def test_what_schedules_store_is_worked_out_from_their_plans(guidance: float | None) -> None:
    network, rows = dit("cpu"), 8 if guidance is None else 16
    full, reused, extrapolated = schedules(network, guidance)
    found = footprint([network], full, batch_size=8)
    weights = sum(each.nbytes for each in (*network.module.parameters(), *network.module.buffers()))
    assert found.base == weights == tensor_bytes(network) == found.needed(full)
    hidden = 4 * 4 * 16 * 4  # tokens, width, bytes of one image's state
    assert found.needed(reused) == weights + rows * hidden
    assert found.needed(extrapolated) == weights + 3 * rows * hidden


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_allocator_counts_what_was_foretold() -> None:
    network = dit("cuda", width=256, tokens=16)
    full, *others = schedules(network, 2.0)
    found = footprint([network], full, batch_size=64)
    for schedule in (full, *others):
        before = torch.cuda.memory_allocated() - tensor_bytes(network)
        peak = peak_memory(trajectory((network,), schedule, 64), network.device).num_bytes - before
        assert peak == pytest.approx(found.needed(schedule), rel=0.1)

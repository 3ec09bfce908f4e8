"""Readings of the clock that mean something: nothing else of ours on the device, and the device's work all done.

Wall clocks are read on CUDA too: an event would leave out the time in which the device waits for Python.
"""

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import torch

from .device import device_id
from .device_lock import DeviceLock

LEAST_SAMPLE_SECONDS = 0.01  # shorter runs are repeated between two readings of the clock


@contextmanager
def device_alone(device: torch.device) -> Generator[None]:
    """Hold the device's lock alone and record no gradients. Raises DeviceError when others keep the device."""
    with DeviceLock(device_id(device)).exclusive(), torch.inference_mode():
        yield


def time_run(run: Callable[[], object], device: torch.device, times: int = 1) -> float:
    """Seconds that one `run` takes, over `times` of them in a row, synchronised with the device on both sides."""
    _synchronize(device)
    begin = time.perf_counter()
    for _ in range(times):
        run()
    _synchronize(device)
    return (time.perf_counter() - begin) / times


def take_turns(
    runs: Sequence[Callable[[], object]], device: torch.device, repeats: int, max_seconds: float | None
) -> list[tuple[float, ...]]:
    """Raw seconds of each run, taken in rounds so that a machine that slows down meanwhile slows all of them.

    Every second round goes backwards, by which a steady drift cancels. Short runs are repeated within a sample, back to
    back as in a trajectory, where Python runs ahead of a CUDA device.

    Args:
        runs: what to time; each runs untimed before the first round.
        repeats: samples of each, at least 1.
        max_seconds: no further round starts that would probably end later; the first always does.
    """
    begin = time.perf_counter()
    times = [_times(run, device) for run in runs]
    samples: list[list[float]] = [[] for _ in runs]
    for repeat in range(repeats):
        start = time.perf_counter()
        for i in range(len(runs)) if repeat % 2 == 0 else reversed(range(len(runs))):
            samples[i].append(time_run(runs[i], device, times[i]))
        if not room_for_another(begin, start, max_seconds):
            break
    return [tuple(seconds) for seconds in samples]


def room_for_another(begin: float, start: float, max_seconds: float | None) -> bool:
    """Whether a round as long as the one that began at `start` and ends now would end `max_seconds` after `begin`."""
    now = time.perf_counter()
    return max_seconds is None or now + (now - start) <= begin + max_seconds


def _times(run: Callable[[], object], device: torch.device) -> int:
    """Warm up, and tell how many runs make a sample that is long beside the clock's own error."""
    first = time_run(run, device)
    # A cold run may take many times as long as the next one.
    estimate = first if first > LEAST_SAMPLE_SECONDS * 10 else time_run(run, device)
    return max(1, math.ceil(LEAST_SAMPLE_SECONDS / max(estimate, 1e-6)))


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

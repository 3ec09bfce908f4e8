"""How long schedules take: summed from the pieces of their plans for the search, and end to end for what is reported.

The first measurement times every distinct kind of network call once and adds the kinds up, which is cheap and
repeatable. The second runs whole trajectories (network, solver, decoder), each beside the baseline's, so that a
speed-up is a ratio of neighbours in time. Both hold the device's lock alone, synchronise with the device on both sides
and keep raw repeats. Wall clocks are read on CUDA too: an event would leave out the time in which the device waits for
Python.
"""

import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from ..network import Network
from ..plan import Call, Run, compile_plan
from ..schedule import Schedule
from .device import device_id
from .device_lock import DeviceLock
from .pieces import DECODE, SOLVER_STEP, call_pieces, decode_piece, solver_piece, trajectory
from .samples import Ratio, Timing, paired_ratio

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


K = TypeVar("K")

LEAST_ROUNDS = 3  # of whole trajectories, whatever the budget: fewer say nothing about their error
GROUP = 4  # schedules between two runs of the baseline


@dataclass(frozen=True)
class TimedSchedule:
    """A schedule and the networks that it runs on, in its order."""

    networks: tuple[Network, ...]
    schedule: Schedule


def missing_kinds(schedules: Iterable[Schedule], known: Sequence[Mapping[str, Timing]]) -> list[set[str]]:
    """For each network, the kinds of calls in the schedules' plans that have no timing yet."""
    found: list[set[str]] = []
    for schedule in schedules:
        found += [set() for _ in range(len(schedule.networks) - len(found))]
        for step in compile_plan(schedule).steps:
            found[step.network].update(call.kind for call in step.calls)
    return [kinds.difference(known[i] if i < len(known) else ()) for i, kinds in enumerate(found)]


def time_calls(
    networks: Sequence[Network],
    schedules: Sequence[Schedule],
    *,
    batch_size: int,
    known: Sequence[Mapping[str, Timing]] = (),
    repeats: int = 5,
    max_seconds: float | None = None,
) -> list[dict[str, Timing]]:
    """Time each distinct kind of call that the schedules make and that is not known, once.

    Kinds that differ only in how many blocks run are measured one by one too: time is not quite proportional to blocks.

    Args:
        networks: those that the schedules name, in their order.
        schedules: at least one; the first also gives the solver and the guidance whose arithmetic is timed.
        batch_size: images a batch; a joint call of both guidance branches evaluates twice as many rows.
        known: earlier results, one mapping a network.
        repeats: samples of each kind, at least 1.
        max_seconds: no further round starts that would probably end later; one round is always taken.

    Returns:
        One mapping a network, from `Call.kind` to its seconds per call; the first network's also has "decode" and
        "solver-step". Empty mappings where nothing was missing.

    Raises:
        DeviceError: others keep the device.
    """
    wanted, device = missing_kinds(schedules, known), networks[0].device
    timings: list[dict[str, Timing]] = [{} for _ in wanted]
    have = known[0].keys() if known else set[str]()
    if not any(wanted) and {DECODE, SOLVER_STEP} <= have:
        return timings
    with device_alone(device):
        pieces = [
            piece
            for index, kinds in enumerate(wanted)
            for piece in call_pieces(networks[index], index, schedules, kinds, batch_size)
        ]
        pieces += [] if DECODE in have else [decode_piece(networks[0], batch_size)]
        pieces += [] if SOLVER_STEP in have else [solver_piece(networks, schedules[0], batch_size)]
        samples = take_turns([piece.run for piece in pieces], device, repeats, max_seconds)
    for piece, seconds in zip(pieces, samples, strict=True):
        timings[piece.network][piece.kind] = Timing(tuple(s / piece.parts for s in seconds), batch_size)
    return timings


def time_schedules(
    subjects: Mapping[K, TimedSchedule],
    baseline: K,
    *,
    batch_size: int,
    repeats: int = 5,
    max_seconds: float | None = None,
    observe: Callable[[K, float], None] | None = None,
) -> dict[K, Timing]:
    """Time whole trajectories end to end: network, solver and decoder, from the first noise to finished images.

    A round runs every schedule once, and the baseline beside every few of them. Every second round runs backwards, so
    that the baseline stands after its neighbours as often as before them and a steady drift cancels. Repeat r of two
    schedules other than the baseline comes from the same round, so those may be compared pair by pair as well.

    Args:
        subjects: what to time, by any key; the baseline among them.
        baseline: its key.
        batch_size: images a batch; 1 gives the latency.
        repeats: rounds, at least 1.
        max_seconds: no further round starts that would probably end later, but three are always taken, or `repeats`.
        observe: called with key and seconds after each run, outside the timed span.

    Returns:
        Each key's raw seconds per batch, and the baseline's beside each of them.

    Raises:
        DeviceError: others keep the device.
    """
    rounds = _Rounds(subjects, baseline, batch_size, observe)
    with device_alone(subjects[baseline].networks[0].device):
        begin = time.perf_counter()
        rounds.warm_up(batch_size)
        for repeat in range(repeats):
            start = time.perf_counter()
            rounds.take(backwards=repeat % 2 == 1)
            if repeat + 1 >= LEAST_ROUNDS and not room_for_another(begin, start, max_seconds):
                break
    return {key: Timing(tuple(rounds.seconds[key]), batch_size, tuple(rounds.beside[key])) for key in subjects}


class _Rounds(Generic[K]):
    """The runs of some schedules in rounds, and what they took."""

    def __init__(
        self,
        subjects: Mapping[K, TimedSchedule],
        baseline: K,
        batch_size: int,
        observe: Callable[[K, float], None] | None,
    ) -> None:
        self.subjects, self.baseline, self.observe = subjects, baseline, observe
        self.device = subjects[baseline].networks[0].device
        self.runs = {key: trajectory(s.networks, s.schedule, batch_size) for key, s in subjects.items()}
        self.seconds: dict[K, list[float]] = {key: [] for key in subjects}
        self.beside: dict[K, list[float]] = {key: [] for key in subjects}
        others = [key for key in subjects if key != baseline]
        self.groups = [others[first : first + GROUP] for first in range(0, len(others), GROUP)] or [[]]

    def warm_up(self, batch_size: int) -> None:
        """Run each kind of call once, which meets every shape at less cost than a trajectory of each schedule."""
        met: dict[Network, set[str]] = {}
        for subject in self.subjects.values():
            for index, kinds in enumerate(missing_kinds([subject.schedule], ())):
                network = subject.networks[index]
                new = kinds - met.setdefault(network, set())
                met[network] |= new
                for piece in call_pieces(network, index, [subject.schedule], new, batch_size):
                    piece.run()
        self.runs[self.baseline]()

    def take(self, *, backwards: bool) -> None:
        """One round: every group of schedules once, the baseline first in each, or all of it in reverse."""
        for group in reversed(self.groups) if backwards else self.groups:
            order = [*reversed(group), self.baseline] if backwards else [self.baseline, *group]
            for key in order:
                self.seconds[key].append(time_run(self.runs[key], self.device))
                if self.observe is not None:
                    self.observe(key, self.seconds[key][-1])
            for key in order:
                self.beside[key].append(self.seconds[self.baseline][-1])


def speedup(timing: Timing) -> Ratio:
    """How many times as fast as the baseline beside it, with an interval (see `paired_ratio`)."""
    return paired_ratio(timing.neighbours, timing.seconds)


def flops(networks: Sequence[Network], schedule: Schedule) -> int:
    """Floating-point operations for one image: every evaluated branch of every step, and the decoder."""
    steps = compile_plan(schedule).steps
    calls = sum(call_flops(networks[step.network], call) for step in steps for call in step.calls)
    return networks[0].decode_flops() + calls


def call_flops(network: Network, call: Call) -> int:
    """Floating-point operations of a call for one image; the same for all calls of a kind."""
    blocks = [index for op in call.ops if isinstance(op, Run) for index in range(op.start, op.stop)]
    return len(call.branches) * network.flops(blocks)

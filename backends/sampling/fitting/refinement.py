"""What a fit leaves open, by the lowest loss on the fitting noises: how far rows go, their gain, and the steps' times.

Each try fits the rows anew on a few dozen images. The search is Hooke & Jeeves's of 1961: one number at a time, a step
up or down, and half the steps once none is better.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ...errors import InputError
from ...network import Network
from ...schedule import Schedule, Step
from ...solvers.spacings import stretch
from ...solvers.tables import path, step_at
from .rows import Fit, fit
from .teacher import BATCH_SIZE, TeacherTrajectories

Loss = Callable[[Fit], float]

TRIES = 60
# Start, first step and bounds. Metrics like contrast: on the bundled checkpoint the pixels of 1.2 % of the full
# schedule's images stray from what is normal there, of 1.6 % with gain 1.1, of 3.5 % with 1.15 and of 7 % with 1.2,
# while the distance falls until 1.15. So gains end where pixels are normal; a loss is best infinite where they are not.
SHARE, GAIN = (0.5, 0.5, 0.0, 1.0), (1.0, 0.05, 0.9, 1.1)
_HALVINGS = 3
_PART_OF_GAP = 0.3  # the first step of a time, in parts of the stretch to the nearer neighbour


def end_error(found: Fit) -> float:
    """How far latents are from the ends of the full trajectories, relative: the loss that needs no metric."""
    return found.errors[-1]


def refine(
    networks: Sequence[Network],
    schedule: Schedule,
    teacher: TeacherTrajectories,
    *,
    loss: Loss | None = None,
    times: bool = False,
    tries: int = TRIES,
    batch_size: int = BATCH_SIZE,
    check: Callable[[], None] = lambda: None,
    observe: Callable[[int, float], None] = lambda tried, lowest: None,
) -> Fit:
    """The fit with the lowest loss that is found.

    Args:
        networks, schedule, teacher, batch_size, check: as `fit` takes them.
        loss: of a fit, lower is better, such as a metric of its latents' images; it chooses share and gain. None: the
            distance from the teacher, which wants share and gain 1, so that only times are searched.
        times: whether the times of all steps but the first are searched too. The solver's own rows go with them, so the
            schedule must carry no coefficients.
        tries: fits at most, at least 1.
        observe: told after each try how many there were, and the lowest loss.

    Raises:
        InputError: as `fit` does, or the times can't be moved.
        NonFiniteSamples: as `fit` does.
    """
    if tries < 1:
        raise InputError(f"tries: must be at least 1, but got {tries}. Use {TRIES}.")
    moved = _Times.of(schedule) if times else None
    knobs = () if loss is None else (SHARE, GAIN)
    best: list[tuple[float, Fit]] = []

    def value(at: tuple[float, ...]) -> float:
        share, gain = at[: len(knobs)] or (1.0, 1.0)
        own = schedule if moved is None else moved.put(at[len(knobs) :])
        found = fit(networks, own, teacher, share=share, gain=gain, batch_size=batch_size, check=check)
        lost = (loss or end_error)(found)
        if not best or lost < best[0][0]:
            best[:] = [(lost, found)]
        return lost

    start = [knob[0] for knob in knobs] + ([] if moved is None else list(moved.start))
    widths = [knob[1] for knob in knobs] + ([] if moved is None else moved.widths())

    def allows(at: tuple[float, ...]) -> bool:
        inside = all(low <= value <= high for value, (_, _, low, high) in zip(at, knobs, strict=False))
        return inside and (moved is None or moved.allows(at[len(knobs) :]))

    _descend(value, tuple(start), widths, allows, tries, observe)
    return best[0][1]


def _descend(
    value: Callable[[tuple[float, ...]], float],
    at: tuple[float, ...],
    widths: list[float],
    allows: Callable[[tuple[float, ...]], bool],
    tries: int,
    observe: Callable[[int, float], None],
) -> None:
    """Try points from `at` on, each better than the last that was kept."""
    known = {at: value(at)}
    observe(1, known[at])
    for halving in range(_HALVINGS + 1):
        better = True
        while better:
            better = False
            for i, width in enumerate(widths):
                for step in (width, -width):
                    there = (*at[:i], at[i] + step / 2**halving, *at[i + 1 :])
                    if there in known or not allows(there):
                        continue
                    if len(known) == tries:
                        return
                    known[there] = value(there)
                    observe(len(known), min(known.values()))
                    if known[there] < known[at]:
                        at, better = there, True
                        break


@dataclass(frozen=True)
class _Times:
    """The distinct times of a schedule, as ln(α/σ) from the second on, and how to put others in their places.

    Attributes:
        schedule: without coefficients.
        places: (S,) for each step the number of its distinct time.
        first, last: ln(α/σ) of the first time, and the highest that one may have.
        start: ln(α/σ) of the others, rising.
    """

    schedule: Schedule
    places: tuple[int, ...]
    first: float
    last: float
    start: tuple[float, ...]

    @classmethod
    def of(cls, schedule: Schedule) -> "_Times":
        """Raises InputError where times can't be moved."""
        if schedule.steps[0].coefficients is not None:
            raise InputError(
                "times: moved steps take their solver's rows along, but the schedule carries coefficients. Leave the "
                "times, or give the schedule without coefficients."
            )
        points = path(schedule.sampler, [step.time for step in schedule.steps]).points[:-1]
        for s, (step, point) in enumerate(zip(schedule.steps, points, strict=True)):
            usual = _moved(schedule, step, point.log_snr)
            pairs = ((step.time, usual.time), (step.network_time or 0.0, usual.network_time or 0.0))
            if not all(math.isclose(own, other, rel_tol=1e-6, abs_tol=1e-6) for own, other in pairs):
                raise InputError(
                    f"step {s}: to be moved, it must have the network's usual time, but has {step.network_time} at "
                    f"{step.time}. Leave the times."
                )
        distinct = sorted({point.log_snr for point in points})
        places = tuple(distinct.index(point.log_snr) for point in points)
        last = max(distinct[-1], stretch(schedule.sampler.noise).log_snrs[1])
        return cls(schedule, places, distinct[0], last, tuple(distinct[1:]))

    def widths(self) -> list[float]:
        """How far each time goes at first: a part of the stretch to the nearer neighbour."""
        rising = [self.first, *self.start, self.last] if self.start else []
        gaps = [after - before for before, after in pairwise(rising)]
        # The first one may be infinite, and the last one 0.
        return [_PART_OF_GAP * min(gap for gap in pair if gap > 0) for pair in pairwise(gaps)]

    def allows(self, at: tuple[float, ...]) -> bool:
        """Whether times with these ln(α/σ) fall, and end where the network knows them."""
        rising = (self.first, *at)
        return all(before < after for before, after in pairwise(rising)) and rising[-1] <= self.last

    def put(self, at: tuple[float, ...]) -> Schedule:
        """The schedule at other times; steps whose time stays are its own."""
        before, after = (self.first, *self.start), (self.first, *at)
        steps = (
            step if after[place] == before[place] else _moved(self.schedule, step, after[place])
            for step, place in zip(self.schedule.steps, self.places, strict=True)
        )
        return replace(self.schedule, steps=tuple(steps))


def _moved(schedule: Schedule, step: Step, log_snr: float) -> Step:
    """The step at another time."""
    noise = schedule.sampler.noise
    there = step_at(noise, stretch(noise).time_at(log_snr), step.blocks)
    return replace(step, time=there.time, network_time=there.network_time)

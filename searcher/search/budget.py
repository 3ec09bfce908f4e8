"""What is left of a budget while a command runs, and what is kept of it for the end.

A time budget is a promise about the whole command, from the start of its process to the report on disk and the printed
front, so it is counted from there. All workers of a study spend one budget together; each counts what the database says
that they have spent.

While the search goes on, what measuring the front needs, and what comes after its last image, is kept. Until the last
image is there, the work comes in small pieces and can stop between any two; what comes after it cannot: every compared
schedule is scored, and the report is written. So that part is estimated from what this session has seen on this
machine, and a margin is added, because other work may take a core at any moment.
"""

import math
import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...backends.errors import InputError
from ...studies.config.budget import Budget, parse_budget
from ...studies.workers import shared_state
from ...studies.workers.shared_state import NOTHING, BudgetShare
from ..measuring.objective import Objective
from ..spaces.candidates import Candidate
from .proposer import Proposer
from .results import Results

# Loading, timing and the report take about half of it.
LEAST_SECONDS = 20.0


def refuse_too_small(budget: Budget) -> Budget:
    """The budget. Raises InputError if loading, timing and the report alone would take all of it."""
    if budget.seconds is not None and budget.seconds < LEAST_SECONDS:
        raise InputError(f"budget: a time must be at least {LEAST_SECONDS:g}s, but got {budget}. Use --budget 4m.")
    return budget


class BudgetMeter:
    """Counts what is spent of a budget; each `…_left` is infinite where the budget does not limit it.

    Args:
        started: `clock()` when the process started.
        clock: seconds on a clock that never goes back.
    """

    def __init__(
        self, budget: Budget, started: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.budget = budget
        self.trials = 0
        self.images = 0
        self._clock = clock
        self._started = clock() - process_age() if started is None else started

    def restart(self, budget: Budget, seconds: float) -> None:
        """Counts on from a budget of which others have spent so many seconds."""
        self.budget, self._started = budget, self._clock() - seconds

    @property
    def seconds(self) -> float:
        """Seconds since the process started."""
        return self._clock() - self._started

    @property
    def seconds_left(self) -> float:
        """Wall-clock seconds, negative once they are overdrawn."""
        return math.inf if self.budget.seconds is None else self.budget.seconds - self.seconds

    @property
    def images_left(self) -> float:
        """Images that may still be sampled, negative once they are overdrawn."""
        return math.inf if self.budget.images is None else self.budget.images - self.images

    @property
    def trials_left(self) -> float:
        """Proposals that may still be measured."""
        return math.inf if self.budget.trials is None else self.budget.trials - self.trials

    @property
    def share_spent(self) -> float:
        """The share of the budget that is gone, 0..1, by the limit that is nearest."""
        return 1.0 - self.budget.left(seconds=self.seconds, trials=self.trials, images=self.images)


class SharedBudget:
    """What all workers of a study spend together.

    Attributes:
        meter: what is left of it, as this worker counts.
        share: the budget that the study was given last.
    """

    def __init__(self, meter: BudgetMeter, proposer: Proposer, results: Results) -> None:
        self.meter = meter
        self.share = NOTHING
        self._proposer, self._results = proposer, results
        self._store, self._config = results.objective.store, results.objective.study_setup.config

    def give(self, identifier: str | None) -> None:
        """Gives the study what this worker may spend, under a name that is drawn if there is none."""
        self.share = BudgetShare(
            id=identifier or secrets.token_hex(8),
            budget=str(self.meter.budget),
            started=shared_state.now(self._store) - self.meter.seconds,
            trials=self._trials_spent(),
            images=shared_state.images_spent(self._store, self._config.name),
        )
        shared_state.give(self._proposer.study, self.share)

    def spend(self, share: BudgetShare) -> None:
        """Spends from now on what is left of a budget that all workers have."""
        self.share = share
        seconds = shared_state.seconds_at_work(self._store, self._config.name, share.started)
        self.meter.restart(parse_budget(share.budget, rest=True), seconds)
        self.count()

    def count(self) -> None:
        """Counts what all workers have spent of it, and what they are about to spend."""
        self._proposer.look()
        self.meter.trials = self._trials_spent() - self.share.trials
        if self.meter.budget.images is not None:
            spent = shared_state.images_spent(self._store, self._config.name) - self.share.images
            self.meter.images = spent + self._proposer.asked_elsewhere() * self._config.quality.num_images

    def _trials_spent(self) -> int:
        """Proposals of the study that were measured, could not be, or are being measured; a user's among them."""
        return self._proposer.asked() + self._results.given_spent()


def process_age() -> float:
    """Seconds since this process started, imports included; 0 where the kernel does not tell."""
    try:
        # The 22nd field, the 20th after the name in parentheses, is the start in clock ticks after boot.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return 0.0
    return max(0.0, uptime - ticks / os.sysconf("SC_CLK_TCK"))


# Page, plots, sample grid and tables. Of the bundled study they took 3 s on an idle core and 8 s beside other work.
REPORT_SECONDS = 8.0
# Beside the score of a compared schedule there are its paired distance and its kernel distance: a third to a half more.
SCORES = 1.5
# A round of images is the longest piece that is begun without looking at the clock; with 17 schedules on two cores it
# takes 10 s. A machine that grows half as slow again during the last one overdraws a budget of 4 minutes by less.
MARGIN = 0.025
# Sampling that is this much slower than it was timed says that other work is about; then so is the report. No more than
# that, or a machine that is busy for a moment would give up its search.
MOST_STRETCH = 2.0
# At most this share of a budget is kept for the front, a tenth for timing and a quarter for images; the rest is the
# search's.
FRONT_SHARE = 0.35
# Of the compared schedules fewer would compare too little, and more would be too thinly measured.
LEAST_COMPARED, MOST_COMPARED = 8, 24
# Whole trajectories run so many times at least, and latencies and warm-up come to one more.
TIMING_ROUNDS = 4


@dataclass(frozen=True)
class Forecast:
    """What the rest of the work will take, and what is left for it; `workers` spend the budget."""

    objective: Objective
    meter: BudgetMeter
    workers: int

    def reserved(self, promoted: Sequence[Candidate]) -> tuple[float, int]:
        """Seconds and images set aside for a front of these and for the end, at most a share of the budget."""
        budget, final_images = self.meter.budget, self.objective.study_setup.config.quality.final_images
        compared = promoted[:MOST_COMPARED]
        seconds = self.sampling_seconds([(each, final_images) for each in compared])
        seconds += self.timing_seconds(compared) + self.closing_seconds(len(compared), final_images)
        images = final_images * len(compared)
        return (
            min(seconds, FRONT_SHARE * (budget.seconds or math.inf)),
            min(images, math.floor(FRONT_SHARE * budget.images)) if budget.images else images,
        )

    def sampling_seconds(self, wanted: Sequence[tuple[Candidate, int]]) -> float:
        """What sampling that many images of each candidate takes, by as many workers as can share it."""
        seconds = sum(self.objective.seconds(each.stored, images) for each, images in wanted)
        return seconds / max(1, min(self.workers, len(wanted)))

    def timing_seconds(self, compared: Sequence[Candidate]) -> float:
        """What timing these schedules end to end takes, about."""
        return TIMING_ROUNDS * 1.3 * sum(self.objective.costs.expected(each.stored) for each in compared)

    def closing_seconds(self, compared: int, images: int) -> float:
        """What is kept for the time after the last image, with so many schedules scored on so many images each."""
        pace, config = self.objective.pace, self.objective.study_setup.config
        scores = SCORES * compared * pace.score_seconds(images)
        report = REPORT_SECONDS if config.run.report is not None else 0.0
        stretch = min(max(1.0, pace.stretch), MOST_STRETCH)
        return stretch * (scores + report) + MARGIN * (self.meter.budget.seconds or 0.0)

    def fits(self, seconds: float, images: int) -> bool:
        """Whether the budget has so much left."""
        return seconds <= self.meter.seconds_left and images <= self.meter.images_left

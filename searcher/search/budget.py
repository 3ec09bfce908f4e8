"""What is left of a budget while a command runs.

A time budget is a promise about the whole command, from the start of its process to the report on disk, so it is
counted from there, and what the tail end needs (final measurements, timing, report) is set aside before the first
proposal.

All workers of a study spend one budget together; each counts what the database says that they have spent.
"""

import math
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from ...backends.errors import InputError
from ...studies.config.budget import Budget, parse_budget
from ...studies.workers import shared_state
from ...studies.workers.shared_state import NOTHING, BudgetShare
from .proposer import Proposer
from .results import Results

Clock = Callable[[], float]


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
        budget: what this command may spend.
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

    Args:
        meter: what is left of it, as this worker counts.
        proposer: knows the study's trials.
        results: knows what a user proposed, and where what was spent is counted from.

    Attributes:
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

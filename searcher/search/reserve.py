"""What is kept of a budget while the search goes on: for measuring the front, and for what comes after its last image.

A time budget ends when the report is on disk and the front is printed. Until the last image is there, the work comes in
small pieces and can stop between any two; what comes after it cannot: every compared schedule is scored, and the report
is written. So that part is estimated from what this session has seen on this machine, and a margin is added, because
other work may take a core at any moment.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..measuring.objective import Objective
from ..spaces.candidate import Candidate
from .budget import BudgetMeter

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
# At most this share of a budget is kept for the front; the rest is the search's.
FRONT_SHARE = 0.5
# More would be too thinly measured.
MOST_COMPARED = 24
# Whole trajectories run so many times at least, and latencies and warm-up come to one more.
TIMING_ROUNDS = 4


@dataclass(frozen=True)
class Forecast:
    """What the rest of the work will take, and what is left for it.

    Attributes:
        objective: says what images, scores and timed calls take.
        meter: what is left of the budget.
        workers: how many spend it.
    """

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
        """What sampling that many images of each candidate takes, with all workers that can be at it at a time."""
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

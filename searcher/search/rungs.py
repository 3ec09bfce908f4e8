"""A first look at proposals on few images: those that fall far short of the front are sampled no further.

Noises are common to all schedules, so what a schedule has beyond the full one is known well from few images. How well
is measured in each study, on the schedules that have all of the search's images: Kendall's τ between their values on
few images and on all, and the error of the difference to the full schedule. The fewest images are taken that rank well.
Every image counts on: a schedule that passes gets the rest, one that doesn't keeps what it has.

It is successive halving (Jamieson & Talwalkar 2016) for two objectives: what is compared is the front at the same
speed.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ...backends.quality.distances import VECTOR_IMAGES
from ...backends.quality.intervals import rank_correlation
from ..proposals.improvement import Bounds
from .promotion import Measured

LEAST_COMPARED = 10  # schedules with all images, before a count is chosen
MOST_COMPARED = 40  # of the newest, which stand near the front
LEAST_AGREEMENT = 0.8  # Kendall's τ of a count that is used
SHARES = (8, 4, 2)  # of the search's images
# A proposal is sampled further unless it would have to be better by so many errors than it looks.
ERRORS = 2.0


@dataclass(frozen=True)
class Rung:
    """Few images, and how far they can be trusted.

    Attributes:
        count: of images; the first ones of each schedule.
        agreement: Kendall's τ with the values on all images.
        error: of a difference to the full schedule, as a share of it and of the least difference that counts.
        num_compared: schedules that say so.
    """

    count: int
    agreement: float
    error: float
    num_compared: int


def counts(num_images: int, batch_size: int) -> list[int]:
    """The counts that a first look may have: whole batches, and no fewer than the search learns from."""
    made = (math.ceil(num_images / share / batch_size) * batch_size for share in SHARES)
    return sorted({count for count in made if VECTOR_IMAGES <= count <= num_images // 2})


def chosen(
    measured: Sequence[Measured], sizes: Iterable[int], few: Callable[[Measured, int], float], least: float
) -> Rung | None:
    """The fewest images that rank schedules as all images do; None where none do, or too little was measured.

    Args:
        measured: on all images, the full schedule first.
        sizes: the counts to choose from, rising.
        few: the quality of one of them on so many images.
        least: the smallest difference in quality that counts.
    """
    full, *others = measured
    others = [each for each in others if each.candidate.weights == full.candidate.weights or each.candidate.trial]
    others = others[-MOST_COMPARED:]
    if len(others) < LEAST_COMPARED:
        return None
    whole = np.array([each.quality - full.quality for each in others])
    for count in sizes:
        base = few(full, count)
        found = np.array([few(each, count) - base for each in others])
        agreement = rank_correlation(found.tolist(), whole.tolist())
        if agreement >= LEAST_AGREEMENT:
            error = float(np.sqrt((((found - whole) / (np.abs(found) + least)) ** 2).mean()))
            return Rung(count, agreement, error, len(others))
    return None


def falls_short(difference: float, speed: float, measured: Sequence[Measured], rung: Rung, bounds: Bounds) -> bool:
    """Whether a schedule is dominated, or worthless, even if it is better than it looks on few images.

    Args:
        difference: its quality beyond the full schedule's, on the rung's images.
        speed: images a second, predicted.
        measured: on all images, the full schedule first.
        bounds: of the hypervolume that the search is after.
    """
    least = max(bounds.least, 1e-12)
    hopeful = measured[0].quality + difference - ERRORS * rung.error * (abs(difference) + least)
    if hopeful >= bounds.worst:
        return True
    return any(each.speed >= speed and each.quality <= hopeful for each in measured)

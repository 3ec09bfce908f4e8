"""A calibration that is cheap enough to begin a search with.

It has few changes and few images, leaves out the full schedule's own number of steps, and samples none of its front.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from ...backends.schedule import Schedule
from ..measuring.setup import StudySetup
from ..monitoring.progress import ProgressListener
from .calibration import Calibrator
from .grid import Choices, make_grids, measured_grids
from .results import Request, price

QUICK = Request(Choices(cached_depths=1, oldest=1, pairs_up_to=5, omits_full=True), num_members=10)


def quick_cost(setup: StudySetup) -> float:
    """What it costs, in evaluations of the full schedule as a search makes them."""
    grids, images = make_grids(setup.frame, QUICK.choices), setup.config.quality.num_images
    work, full = price(measured_grids(grids, QUICK.choices)).work, grids[0].full_work
    return (work + full) * QUICK.num_images / (full * images)


def quick_front(setup: StudySetup, watch: ProgressListener, check: Callable[[], None]) -> list[Schedule]:
    """Schedules to begin a search with, the cheapest first.

    Args:
        setup: network, conditions and metric, which must have features.
        watch: who is told what goes on.
        check: raises to stop; called at every step.
    """
    with tempfile.TemporaryDirectory(prefix="exeunt-") as folder:
        return Calibrator(setup, QUICK, Path(folder), watch, check).schedules()

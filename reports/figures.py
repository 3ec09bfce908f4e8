"""Every figure of a report, each drawn once for all its files."""

from collections.abc import Iterator

from matplotlib.figure import Figure

from . import plots
from .front_info import front_info
from .front_maps import draw_maps, maps_info
from .front_plot import draw_front
from .samples import GridInfo, draw_samples
from .selection import highlights
from .view import StudyView

NAMES = ("front", "search", "schedules", "depth", "hypervolume", "timing", "samples")


def figures(view: StudyView, grid: GridInfo | str) -> dict[str, Figure]:
    """The figures that have something to show, by their name in `NAMES`."""
    return dict(_drawn(view, grid))


def _drawn(view: StudyView, grid: GridInfo | str) -> Iterator[tuple[str, Figure]]:
    if front := front_info(view, "final"):
        yield "front", draw_front(front)
    if search := front_info(view, "search"):
        yield "search", draw_front(search)
    if maps := maps_info(view):
        yield "schedules", draw_maps(maps)
    if depth := plots.depth_info(highlights(view)):
        yield "depth", plots.draw_depth(depth)
    if progress := plots.progress_info(view):
        yield "hypervolume", plots.draw_progress(progress)
    if prediction := plots.prediction_info(view):
        yield "timing", plots.draw_prediction(prediction)
    if isinstance(grid, GridInfo):
        yield "samples", draw_samples(grid)

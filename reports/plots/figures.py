"""Every figure of a report, each drawn once for all its files."""

from collections.abc import Iterator

from matplotlib.figure import Figure

from ..view.selection import highlights
from ..view.view import StudyView
from . import curves
from .front import draw_front
from .front_info import front_info
from .maps import draw_maps, maps_info
from .samples import GridInfo, draw_samples

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
    if depth := curves.depth_info(highlights(view)):
        yield "depth", curves.draw_depth(depth)
    if progress := curves.progress_info(view):
        yield "hypervolume", curves.draw_progress(progress)
    if prediction := curves.prediction_info(view):
        yield "timing", curves.draw_prediction(prediction)
    if isinstance(grid, GridInfo):
        yield "samples", draw_samples(grid)

"""Every figure of a report, each drawn once for all its files; and the study's curves.

A module of this package declares its figures as the rows of its `FIGURES`. A new figure is one more row, with the two
functions that it names: its files, its place on the page and the text under it follow from the row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from statistics import median
from typing import Any, Generic, Literal, TypeVar

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..view.interval import spelled_number
from ..view.pareto import FrontProgress, hypervolume
from ..view.view import StudyView
from . import style

_T = TypeVar("_T")


@dataclass(frozen=True)
class ReportFigure(Generic[_T]):
    """One figure of the report.

    Attributes:
        name: of its files, and what its ids on the page begin with.
        title: what it shows, for people who can't see it.
        info: what there is to show of a study, as a value; None while there is nothing.
        draw: the drawing of that value.
        section: where the page shows it; empty where the page has markup of its own for it.
        note: the text under it.
        wide: whether it takes the whole width of the page.
    """

    name: str
    title: str
    info: Callable[[StudyView], _T | None]
    draw: Callable[[_T], Figure]
    section: Literal["schedules", "search", ""] = ""
    note: Callable[[_T], str] = lambda _: ""
    wide: bool = False


@dataclass(frozen=True)
class Drawn:
    """A figure, the value that it shows, and the drawing."""

    figure: ReportFigure[Any]
    info: Any
    drawing: Figure


def report_figures() -> dict[str, ReportFigure[Any]]:
    """All that the modules beside this one declare, by name."""
    names = [each.name for each in iter_modules([str(Path(__file__).parent)])]
    rows = [getattr(import_module(f".{name}", __package__), "FIGURES", ()) for name in names]
    return {figure.name: figure for row in rows for figure in row}


def figures(view: StudyView, grid: Any) -> dict[str, Drawn]:
    """The figures that have something to show, by name. `grid`: see `page.render`."""
    rows = report_figures()
    infos = {name: row.info(view) for name, row in rows.items()}
    infos["samples"] = None if isinstance(grid, str) else grid  # sampled or kept, and no part of the view
    return {name: Drawn(rows[name], info, rows[name].draw(info)) for name, info in infos.items() if info is not None}


@dataclass(frozen=True)
class ProgressInfo:
    """The hypervolume of the search values over images sampled; `baselines` is what the baselines alone reach."""

    entries: tuple[FrontProgress, ...]
    baselines: float
    reference: str


@dataclass(frozen=True)
class PredictionInfo:
    """Predicted beside measured seconds a batch: (family, predicted, measured) each."""

    pairs: tuple[tuple[str, float, float], ...]
    batch_size: int

    @property
    def median_error(self) -> float:
        """The median of |predicted ÷ measured − 1|."""
        return median(abs(predicted / measured - 1) for _, predicted, measured in self.pairs)


def progress_info(view: StudyView) -> ProgressInfo | None:
    """None until the full schedule's search value is there to refer to."""
    reference = view.reference_point
    if reference is None or not view.progress:
        return None
    baselines = [view.score("search")(point) for point in view.measured("search") if point.role == "baseline"]
    at = f"{spelled_number(view.unit.of(reference.speed))} {view.unit.short}"
    text = f"distance {spelled_number(reference.quality)} at {at}"
    return ProgressInfo(tuple(view.progress), hypervolume(baselines, reference), text)


def prediction_info(view: StudyView) -> PredictionInfo | None:
    """None until a schedule was both predicted and timed end to end."""
    pairs = tuple(
        (point.family, point.predicted_seconds, point.throughput.median)
        for point in view.points
        if point.predicted_seconds and point.throughput
    )
    return PredictionInfo(pairs, view.batch_size) if pairs else None


def draw_progress(info: ProgressInfo) -> Figure:
    """Hypervolume over images; the dots are evaluations that moved the front."""
    with style.drawing(4.6, 3.1) as figure:
        axes = figure.add_subplot()
        costs = [0.0, *(entry.cost for entry in info.entries)]
        areas = [0.0, *(entry.hypervolume for entry in info.entries)]
        axes.step(costs, areas, where="post", color=style.ACCENT, linewidth=1.4)
        moved = [(x, y) for x, y, before in zip(costs[1:], areas[1:], areas, strict=False) if y > before]
        axes.plot([x for x, _ in moved], [y for _, y in moved], "o", color=style.ACCENT, markersize=3)
        axes.axhline(info.baselines, color=style.BLUE, linewidth=0.9, linestyle=(0, (5, 3)))
        note = axes.annotate("all baselines alone", (0, info.baselines), (3, 2), textcoords="offset points")
        note.set(color=style.BLUE, fontsize=7.5, va="bottom")
        axes.set(xlabel="images sampled by the search", xlim=(0, None))
        axes.set(ylabel="hypervolume, distance × images/s", ylim=(0, None))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter(FuncFormatter(style.tick_text))
        style.faint_grid(axes)
    return figure


def draw_prediction(info: PredictionInfo) -> Figure:
    """Predicted against measured seconds on the diagonal's band of ± 5 %."""
    with style.drawing(4.6, 3.1) as figure:
        axes = figure.add_subplot()
        low, high = style.padded([seconds for _, *pair in info.pairs for seconds in pair])
        for which in ("x", "y"):
            style.logarithmic(axes, which, low, high)
        axes.plot([low, high], [low, high], color=style.MUTED, linewidth=0.9)
        band = [low * 0.95, high * 0.95], [low * 1.05, high * 1.05]
        axes.fill_between([low, high], *band, color=style.HAIRLINE, alpha=0.6, linewidth=0)
        for family, predicted, measured in info.pairs:
            look = style.family_look(family)
            color, size = style.PALETTE[look.color], look.size * 0.7
            axes.plot(measured, predicted, linestyle="", marker=look.marker, color=color, markersize=size, alpha=0.85)
        axes.set(xlabel=f"measured, seconds a batch of {info.batch_size}", ylabel="predicted, seconds")
        note = f"median error {info.median_error:.1%}\nband: ± 5 %"
        axes.annotate(note, (0.04, 0.96), xycoords="axes fraction", va="top", fontsize=8)
        style.faint_grid(axes)
    return figure


FIGURES = (
    ReportFigure(
        name="hypervolume",
        title="Hypervolume over images",
        info=progress_info,
        draw=draw_progress,
        section="search",
        note=lambda info: f"Hypervolume of the search values, from the reference point {info.reference}.",
    ),
    ReportFigure(
        name="timing",
        title="Predicted and measured time",
        info=prediction_info,
        draw=draw_prediction,
        section="search",
        note=lambda info: f"Predicted and measured end-to-end time. The median error is {info.median_error:.1%}.",
    ),
)

"""The study's other plots, each a plain value of what it shows and a thin drawing of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import median

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ...backends.schedule import depths
from ..view.interval import spelled_number
from ..view.pareto import FrontProgress, hypervolume
from ..view.selection import Highlight
from ..view.view import StudyView
from .style import (
    ACCENT,
    BLUE,
    HAIRLINE,
    MUTED,
    faint_grid,
    logarithmic,
    look,
    new_figure,
    padded,
    paper_style,
    settle_layout,
    tick_text,
)


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


@dataclass(frozen=True)
class DepthProfile:
    """One schedule's depth at each step."""

    name: str
    color: str
    depths: tuple[int, ...]


@dataclass(frozen=True)
class DepthInfo:
    """How deep the chosen schedules run at each step, the full schedule first."""

    profiles: tuple[DepthProfile, ...]
    num_blocks: int
    num_steps: int


def progress_info(view: StudyView) -> ProgressInfo | None:
    """None until the full schedule's search value is there to refer to."""
    reference = view.reference_point
    if reference is None or not view.progress:
        return None
    baselines = [view.score("search")(point) for point in view.measured("search") if point.role == "baseline"]
    text = f"distance {spelled_number(reference.quality)} at {spelled_number(reference.speed)} images/s"
    return ProgressInfo(tuple(view.progress), hypervolume(baselines, reference), text)


def prediction_info(view: StudyView) -> PredictionInfo | None:
    """None until a schedule was both predicted and timed end to end."""
    pairs = tuple(
        (point.family, point.predicted_seconds, point.throughput.median_seconds)
        for point in view.points
        if point.predicted_seconds and point.throughput
    )
    return PredictionInfo(pairs, view.batch_size) if pairs else None


def depth_info(highlights: Sequence[Highlight]) -> DepthInfo | None:
    """None while there is nothing beside the full schedule."""
    points = [highlight.point for highlight in highlights]
    if len(points) < 2:
        return None
    profiles = tuple(DepthProfile(p.label, look(p.family).color, tuple(depths(p.schedule))) for p in points)
    num_blocks = max(network.num_blocks for point in points for network in point.schedule.networks)
    return DepthInfo(profiles, num_blocks, max(point.schedule.num_steps for point in points))


def draw_progress(info: ProgressInfo, width: float = 4.6, height: float = 3.1) -> Figure:
    """Hypervolume over images; the dots are evaluations that moved the front."""
    with paper_style():
        figure = new_figure(width, height)
        axes = figure.add_subplot()
        costs = [0.0, *(entry.cost for entry in info.entries)]
        areas = [0.0, *(entry.hypervolume for entry in info.entries)]
        axes.step(costs, areas, where="post", color=ACCENT, linewidth=1.4)
        moved = [(x, y) for x, y, before in zip(costs[1:], areas[1:], areas, strict=False) if y > before]
        axes.plot([x for x, _ in moved], [y for _, y in moved], "o", color=ACCENT, markersize=3)
        axes.axhline(info.baselines, color=BLUE, linewidth=0.9, linestyle=(0, (5, 3)))
        note = axes.annotate("all baselines alone", (0, info.baselines), (3, 2), textcoords="offset points")
        note.set(color=BLUE, fontsize=7.5, va="bottom")
        axes.set(
            xlabel="images sampled by the search",
            ylabel="hypervolume, distance × images/s",
            xlim=(0, None),
            ylim=(0, None),
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter(FuncFormatter(tick_text))
        faint_grid(axes)
        return settle_layout(figure)


def draw_prediction(info: PredictionInfo, width: float = 4.6, height: float = 3.1) -> Figure:
    """Predicted against measured seconds on the diagonal's band of ± 5 %."""
    with paper_style():
        figure = new_figure(width, height)
        axes = figure.add_subplot()
        low, high = padded([seconds for _, *pair in info.pairs for seconds in pair])
        for which in ("x", "y"):
            logarithmic(axes, which, low, high)
        axes.plot([low, high], [low, high], color=MUTED, linewidth=0.9)
        axes.fill_between(
            [low, high], [low * 0.95, high * 0.95], [low * 1.05, high * 1.05], color=HAIRLINE, alpha=0.6, linewidth=0
        )
        for family, predicted, measured in info.pairs:
            style = look(family)
            axes.plot(measured, predicted, style.marker, color=style.color, markersize=style.size * 0.7, alpha=0.85)
        axes.set(xlabel=f"measured, seconds a batch of {info.batch_size}", ylabel="predicted, seconds")
        note = f"median error {info.median_error:.1%}\nband: ± 5 %"
        axes.annotate(note, (0.04, 0.96), xycoords="axes fraction", va="top", fontsize=8)
        faint_grid(axes)
        return settle_layout(figure)


def draw_depth(info: DepthInfo, width: float = 8.0, columns: int = 3) -> Figure:
    """Blocks that run at each step, from noise to data, one panel a schedule."""
    rows = math.ceil(len(info.profiles) / columns)
    with paper_style():
        figure = new_figure(width, 0.45 + 1.35 * rows)
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, profile in zip_longest(panels.flat, info.profiles):
            if profile is None:
                axes.remove()
                continue
            num_steps = len(profile.depths)
            axes.bar(range(num_steps), profile.depths, width=0.82, color=profile.color)
            axes.set_title(profile.name, fontsize=8)
            axes.set(xlim=(-0.6, info.num_steps - 0.4), ylim=(0, info.num_blocks * 1.06))
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.grid(visible=True, axis="y")
            axes.set_axisbelow(True)
        figure.supxlabel("step, from noise to data", fontsize=9)
        figure.supylabel("blocks that run", fontsize=9)
        return settle_layout(figure)
